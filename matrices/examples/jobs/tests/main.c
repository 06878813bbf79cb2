/* What a queue has to be, on whatever server. Each test begins with an empty one. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../jobs.h"
#include "check.h"

static db *one, *two; /* sessions */

static bool good(db_status status, const db *session)
{
    if (status != DB_OK)
        check_note(db_error(session));
    return status == DB_OK;
}

#define GOOD(session, call) CHECK(good((call), (session)))

static void pause_a_little(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 50 * 1000 * 1000}, NULL);
}

static void comes_back_as_it_was(const char *payload)
{
    job found;

    GOOD(one, jobs_create(one));
    GOOD(one, jobs_push(one, "a", payload));
    GOOD(two, jobs_claim(two, &found));
    CHECK_TEXT("a", found.name);
    CHECK_TEXT(payload, found.payload);
    jobs_forget(&found);
}

static void a_new_queue_is_empty(void)
{
    job found;

    GOOD(one, jobs_create(one));
    CHECK_EQUAL(0, jobs_count(one));
    GOOD(one, jobs_claim(one, &found));
    CHECK_TEXT(NULL, found.name);
}

static void plain_text(void) { comes_back_as_it_was("make check"); }
static void no_payload(void) { comes_back_as_it_was(NULL); }
static void an_empty_payload(void) { comes_back_as_it_was(""); }
static void lines_and_tabs(void) { comes_back_as_it_was("one\ntwo\tthree\r\n"); }
static void quotes(void) { comes_back_as_it_was("it's \"so\" \\ `and` \\' $1 ? %s"); }
static void an_injection(void) { comes_back_as_it_was("'); DROP TABLE jobs; --"); }
static void unicode(void) { comes_back_as_it_was("Grüße, κόσμε, 你好, שלום"); }
static void beyond_the_basic_plane(void) { comes_back_as_it_was("🦀 𝔘𝔫𝔦 👩‍🔬"); }

static void a_long_payload(void)
{
    enum { SIZE = 60000 };
    char *text = malloc(SIZE + 1);

    if (!CHECK(text != NULL))
        return;
    for (size_t i = 0; i < SIZE; i++)
        text[i] = (char)('a' + i % 26);
    text[SIZE] = '\0';
    comes_back_as_it_was(text);
    free(text);
}

static void a_name_is_taken_once(void)
{
    GOOD(one, jobs_create(one));
    GOOD(one, jobs_push(one, "a", "first"));
    CHECK_EQUAL(DB_DUPLICATE, jobs_push(one, "a", "second"));
    GOOD(one, jobs_push(one, "b", "the session goes on"));
    CHECK_EQUAL(2, jobs_count(one));
}

static void names_that_only_look_alike_are_different(void)
{
    GOOD(one, jobs_create(one));
    GOOD(one, jobs_push(one, "resume", NULL));
    GOOD(one, jobs_push(one, "Resume", NULL));
    GOOD(one, jobs_push(one, "résumé", NULL));
    CHECK_EQUAL(3, jobs_count(one));
}

static void a_statement_that_makes_no_sense(void)
{
    GOOD(one, jobs_create(one));
    CHECK_EQUAL(DB_FAILED, db_run(one, NULL, "SELECT nothing FROM nowhere", 0, NULL));
    CHECK(strstr(db_error(one), "nowhere") != NULL);
    GOOD(one, jobs_push(one, "a", "the session goes on"));
}

static void what_is_rolled_back_was_never_there(void)
{
    GOOD(one, jobs_create(one));
    GOOD(one, jobs_begin(one));
    GOOD(one, jobs_push(one, "a", NULL));
    CHECK_EQUAL(1, jobs_count(one));
    GOOD(one, jobs_rollback(one));
    CHECK_EQUAL(0, jobs_count(one));
}

static void others_see_what_is_committed_and_not_before(void)
{
    GOOD(one, jobs_create(one));
    GOOD(one, jobs_begin(one));
    GOOD(one, jobs_push(one, "a", NULL));
    CHECK_EQUAL(0, jobs_count(two));
    GOOD(one, jobs_commit(one));
    CHECK_EQUAL(1, jobs_count(two));
}

static void two_sessions_get_different_jobs(void)
{
    job first, second;

    GOOD(one, jobs_create(one));
    GOOD(one, jobs_push(one, "a", NULL));
    GOOD(one, jobs_push(one, "b", NULL));
    GOOD(one, jobs_begin(one));
    GOOD(two, jobs_begin(two));
    GOOD(one, jobs_claim(one, &first));
    GOOD(two, jobs_claim(two, &second));
    CHECK_TEXT("a", first.name);
    CHECK_TEXT("b", second.name);
    GOOD(one, jobs_finish(one, &first));
    GOOD(one, jobs_commit(one));
    GOOD(two, jobs_rollback(two));
    CHECK_EQUAL(1, jobs_count(one));
    jobs_forget(&first);
    jobs_forget(&second);
}

static void who_goes_away_gives_the_job_back(void)
{
    db *brief = db_open();
    job found = {NULL, NULL};

    GOOD(one, jobs_create(one));
    GOOD(one, jobs_push(one, "a", NULL));
    if (!CHECK(brief != NULL))
        return;
    GOOD(brief, jobs_begin(brief));
    GOOD(brief, jobs_claim(brief, &found));
    CHECK_TEXT("a", found.name);
    jobs_forget(&found);
    GOOD(one, jobs_claim(one, &found));
    CHECK_TEXT(NULL, found.name);
    db_close(brief);
    for (int tries = 0; found.name == NULL && tries < 600; tries++) {
        pause_a_little(); /* the server has to notice */
        GOOD(one, jobs_claim(one, &found));
    }
    CHECK_TEXT("a", found.name);
    jobs_forget(&found);
}

/* In a process of its own: take jobs until none is left; how many it got, or 255. */
static int work_off(void)
{
    db *own = db_open();
    int done = 0;

    if (own == NULL)
        return 255;
    for (;; done++) {
        job found;
        bool empty;

        if (jobs_begin(own) != DB_OK || jobs_claim(own, &found) != DB_OK)
            return 255;
        empty = found.name == NULL;
        if (!empty && jobs_finish(own, &found) != DB_OK)
            return 255;
        jobs_forget(&found);
        if (jobs_commit(own) != DB_OK)
            return 255;
        if (empty)
            break;
    }
    db_close(own);
    return done;
}

static void every_job_is_done_once(void)
{
    enum { JOBS = 60, WORKERS = 4 };
    char name[16];
    int done = 0;

    GOOD(one, jobs_create(one));
    GOOD(one, jobs_begin(one));
    for (int i = 0; i < JOBS; i++) {
        snprintf(name, sizeof name, "job %d", i);
        GOOD(one, jobs_push(one, name, NULL));
    }
    GOOD(one, jobs_commit(one));
    fflush(stdout);
    for (int i = 0; i < WORKERS; i++)
        if (fork() == 0)
            _exit(work_off());
    for (int i = 0; i < WORKERS; i++) {
        int status;

        if (CHECK(wait(&status) > 0 && WIFEXITED(status)) && CHECK(WEXITSTATUS(status) != 255))
            done += WEXITSTATUS(status);
    }
    CHECK_EQUAL(JOBS, done);
    CHECK_EQUAL(0, jobs_count(one));
}

static void say_which_server(void)
{
    FILE *file = fopen("server.txt", "w");
    db_result result;

    GOOD(one, db_run(one, &result, "SELECT VERSION()", 0, NULL));
    if (CHECK(file != NULL) && CHECK_EQUAL(1, (long)result.rows))
        fprintf(file, "%s: %s\n", db_product, result.cells[0]);
    if (file != NULL)
        fclose(file);
    db_free(&result);
}

int main(void)
{
    one = db_open();
    two = db_open();
    if (one == NULL || two == NULL) {
        printf("Bail out! there is no session with %s\n", db_product);
        return 2;
    }
    check_run("the server says its version", say_which_server);
    check_run("a new queue is empty", a_new_queue_is_empty);
    check_run("plain text comes back", plain_text);
    check_run("no payload comes back as none", no_payload);
    check_run("an empty payload is not the same as none", an_empty_payload);
    check_run("lines and tabs come back", lines_and_tabs);
    check_run("quotes and signs come back", quotes);
    check_run("SQL in a payload is only text", an_injection);
    check_run("Unicode comes back", unicode);
    check_run("characters of four bytes come back", beyond_the_basic_plane);
    check_run("60000 characters come back", a_long_payload);
    check_run("a name is taken once", a_name_is_taken_once);
    check_run("names that only look alike are different", names_that_only_look_alike_are_different);
    check_run("a statement that makes no sense is refused, and the session goes on", a_statement_that_makes_no_sense);
    check_run("what is rolled back was never there", what_is_rolled_back_was_never_there);
    check_run("others see what is committed, and not before", others_see_what_is_committed_and_not_before);
    check_run("two sessions get different jobs", two_sessions_get_different_jobs);
    check_run("who goes away gives the job back", who_goes_away_gives_the_job_back);
    check_run("four workers do every job once", every_job_is_done_once);
    db_close(one);
    db_close(two);
    return check_end();
}
