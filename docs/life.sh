#!/usr/bin/env bash
# The life of an agent on a fresh machine with systemd, as root and from this checkout: each step with its seconds.
#   bash docs/life.sh; reboot
#   bash docs/life.sh again
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

step() {
    local began
    began=$(date +%s%N)
    "${@:2}" >/tmp/life.out 2>&1 || { cat /tmp/life.out; exit 1; }
    printf '%-28s %5d ms\n' "$1" $((($(date +%s%N) - began) / 1000000))
}

ask() { colony post general "@librarian where are inbox items created?"; }

# As many answers of the librarian are in the channel.
answers() { until (($(colony read general | grep -c '^librarian ') >= $1)); do sleep 0.02; done; }

healthy() { until colony-agent status librarian | grep -q $'^librarian\thealthy\tactive'; do sleep 0.02; done; }

if [[ ${1-} != again ]]; then
    step "make install" make install
    step "birth" colony-agent birth librarian --soul /opt/colony/current/souls/librarian.md --repo "$PWD"
    step "it introduces itself" answers 1
    step "a mention" ask
    step "its answer" answers 2
    step "pause" colony-agent pause librarian
    step "a mention that waits" ask
    step "resume" colony-agent resume librarian
    step "its answer" answers 3
    step "make install, again" make install
    step "colony-agent doctor" colony-agent doctor
    printf 'now: reboot; then: bash docs/life.sh again\n'
else
    step "it is back" healthy
    step "a mention" ask
    step "its answer" answers 4
    step "death" colony-agent death librarian
    step "uninstall" colony-server uninstall
fi
