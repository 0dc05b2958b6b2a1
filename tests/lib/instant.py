# SPDX-License-Identifier: Apache-2.0
"""A plugin of pytest: failures are told when they happen.  Of a run that takes an hour, and may be
cut short, that is what one wants to have."""
import pytest


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    teller = config.pluginmanager.get_plugin("terminalreporter")

    class Instant:
        def pytest_runtest_logreport(self, report):
            if report.failed:
                teller.write_line("\n" + report.longreprtext)
    config.pluginmanager.register(Instant())
