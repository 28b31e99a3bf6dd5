"""The console in a real browser: Debian's Chromium, driven by Playwright, on an ``interlock up`` of its own."""
