"""The work that guest and host do, as a program for either of them, and what it answers. Pure."""

from __future__ import annotations

import re

from farm.errors import UntrustedError

PROGRAM = rb"""
my ($LEAST_S, $FOLDER, $KIND) = @ARGV;
my $BLOCK = "farm" x 262144;
my $FILE = "$FOLDER/.farm-calibration.$$";
open my $CLOCK, "<", "/proc/uptime" or die "cannot read the clock: $!\n";

sub now {
	sysseek $CLOCK, 0, 0;
	sysread $CLOCK, my $said, 32;
	return $said =~ /^([0-9.]+)/ ? $1 : die "cannot read the clock\n";
}

# What compilers and test suites do most: branches, small texts, tables, numbers. Nothing for which a CPU may have
# an instruction of its own, as it has for checksums: that would measure whether the emulator has it too.
sub compute {
	my %seen;
	my $sum = 0;
	for my $i (1 .. 150) {
		my $word = "w" . ($i * 7919 % 1009);
		$seen{$word} .= chr(65 + $i % 26);
		$sum = ($sum * 31 + length $seen{$word}) & 0x7fffffff;
	}
	my @words = grep { /[0-9]5|7$/ } sort keys %seen;
	return $sum + @words;
}

sub start_programs {
	system("/bin/sh", "-c", "for i in 1 2 3 4 5 6 7; do /bin/true; done") == 0 or die "cannot start programs\n";
}

sub use_disk {
	require IO::Handle;
	open my $file, "+>:raw", $FILE or die "cannot write $FILE: $!\n";
	unlink $FILE;
	print $file $BLOCK or die "cannot write $FILE: $!\n";
	$file->flush && $file->sync or die "cannot write $FILE: $!\n";
	seek $file, 0, 0;
	read($file, my $back, length $BLOCK) == length $BLOCK or die "cannot read $FILE: $!\n";
}

sub used {
	my $sum = 0;
	$sum += $_ for times;
	return $sum;
}

my $work = {cpu => \&compute, fork => \&start_programs, disk => \&use_disk}->{$KIND};
my ($edge, $start, $took, $count) = (now(), 0, 0, 0);
1 while ($start = now()) == $edge;
my $used = used();
while ($took < $LEAST_S) {
	$work->();
	$count++;
	$took = now() - $start;
}
printf "farm-rate %.4f %.4f\n", $count / $took, (used() - $used) / $took;
"""
"""Perl, of which `perl-base` has enough. Arguments: for how many seconds to work, a folder on the disk to try, and the
kind of work. It prints how much was done in a second, and the share of a CPU that it had, as far as it knows.

It is started a dozen times in a guest that may be fifty times as slow, so it loads next to nothing: the modules that
know the time, or that warn, take several times as long to start as all of the work."""

KINDS = ("cpu", "fork", "disk")
"""Of work."""

_NUMBERS = re.compile(rb"^farm-rate (\d{1,9}\.\d{4}) (\d{1,9}\.\d{4})$", re.MULTILINE)


def read_numbers(answer: bytes) -> tuple[float, float]:
    """What PROGRAM prints: a rate, and a share. Raises UntrustedError."""
    match = _NUMBERS.search(answer)
    if match is None or not float(match[1]):
        raise UntrustedError("cannot measure how slow the guest is: what it answers is not what was asked for")
    return float(match[1]), float(match[2])
