"""A real browser on a real server: what it complains of is noted, and is a failure of the test."""

from __future__ import annotations

from dataclasses import dataclass, field

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, ConsoleMessage, Page

from tests.service.serving import Serving

CHROMIUM = "/usr/bin/chromium"
SWITCHES = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PHONE = {"width": 390, "height": 844}
_WATCH = """
document.addEventListener('securitypolicyviolation', (event) =>
  window.complain(`${event.violatedDirective} refused ${event.blockedURI} ${event.sample} in ${location}`));
"""
_STAND_STILL = """
() => document.querySelectorAll('[hx-trigger*=every]').forEach((one) => one.replaceWith(one.cloneNode(true)))
"""
"""What htmx does not know is not brought up to date, so that what was reached stays there."""
_OPERABLE = """
  [...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex="0"]')]
    .filter((one) => !one.disabled && one.checkVisibility())
"""
_REACHED = """
() => {
  const style = getComputedStyle(document.activeElement);
  if (style.outlineStyle !== 'none' && style.outlineWidth !== '0px') document.activeElement.dataset.reached = '';
}
"""
_MISSED = f"() => {_OPERABLE}.filter((one) => !('reached' in one.dataset)).map((one) => one.outerHTML.slice(0, 200))"

_MORE_STOPS = 10
"""The end of the page is one, and so is each part of a date."""


@dataclass
class Visitor:
    """A window of the browser."""

    context: BrowserContext
    server: Serving
    troubles: list[str] = field(default_factory=list)
    page: Page = field(init=False)

    def __post_init__(self) -> None:
        self.context.set_default_timeout(20_000)
        self.context.expose_function("complain", lambda words: self.troubles.append(str(words)))
        self.context.add_init_script(_WATCH)
        self.page = self.context.new_page()
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.troubles.append(f"script: {error}"))
        self.page.on("dialog", lambda dialog: (self.troubles.append(f"dialog: {dialog.message}"), dialog.dismiss()))

    def log_in(self, scope: str) -> None:
        """Show the token of a scope."""
        self.page.goto("/login")
        self.page.fill("#token", self.server.token(scope))
        self.page.click("main button")
        self.page.wait_for_url("**/runs")

    def see(self, path: str) -> Page:
        """Go to a page."""
        answer = self.page.goto(path)
        assert answer is not None
        assert answer.ok, f"{path}: {answer.status}"
        return self.page

    def lost_to_the_keyboard(self) -> list[str]:
        """What of the page that is seen no Tab leads to, or does not show that it has the focus."""
        self.page.evaluate(_STAND_STILL)
        for _ in range(len(self.page.evaluate(_MISSED)) + _MORE_STOPS):
            self.page.keyboard.press("Tab")
            self.page.evaluate(_REACHED)
        return list(self.page.evaluate(_MISSED))

    def barriers(self) -> list[str]:
        """What keeps people out of the page that is seen, of those things that axe calls serious or critical."""
        found = Axe().run(self.page).response["violations"]
        return [
            f"{one['id']}: {node['html'][:200]} {node.get('failureSummary', '')[:300]}"
            for one in found
            if one["impact"] in {"serious", "critical"}
            for node in one["nodes"][:3]
        ]

    def width(self) -> int:
        """How wide what is on the page is, beyond which it has to be scrolled."""
        return int(self.page.evaluate("document.documentElement.scrollWidth"))

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.troubles.append(f"{message.type}: {message.text}")
