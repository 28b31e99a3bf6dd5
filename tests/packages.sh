# Sourced by the set-up scripts of the tests: install the Debian packages that are missing, or say what goes without.
#
#     install_missing "$0" "tests that need them are skipped" "
#     package:command     what it is for
#     package:/a/file     …
#     "
#
# As root on Debian the missing ones are installed, and none of their services is left running or enabled. Anywhere else
# they are named, and what needs them prints the reason when it is passed over.

PATH=$PATH:/usr/sbin:/sbin

install_missing() {
    missing=$(echo "$3" | missing_packages)
    if [ -z "$missing" ]; then
        return 0
    elif [ "$(id -u)" != 0 ]; then
        echo "$1: not root, so these Debian packages are not installed and $2: $missing" >&2
    elif ! command -v apt-get >/dev/null; then
        echo "$1: no apt-get, so these packages (Debian's names) are not installed and $2: $missing" >&2
    else
        install_packages "$missing" ||
            echo "$1: apt-get could not install all of these, and $2: $missing" >&2
        disable_services "$missing"
    fi
}

missing_packages() {
    while read -r pair _; do
        case ${pair#*:} in
        "") continue ;;
        /*) [ -e "${pair#*:}" ] || [ -e "${pair#*:/usr}" ] && continue ;; # Debian may keep a command in /bin, too
        *) command -v "${pair#*:}" >/dev/null && continue ;;
        esac
        echo "${pair%%:*}"
    done | tr '\n' ' '
}

# shellcheck disable=SC2086  # a list of names
install_packages() (
    export DEBIAN_FRONTEND=noninteractive
    forbid_service_starts
    apt-get update -qq || true # an old list may still do
    apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends $1 </dev/null >&2
)

# Debian's maintainer scripts ask this file before they start a service; 101 means no.
forbid_service_starts() {
    policy=/usr/sbin/policy-rc.d
    [ -e $policy ] && return
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
}

# The policy keeps a new service from being started now; this keeps it from being started at the next boot.
disable_services() {
    command -v systemctl >/dev/null || return 0
    for package in $1; do
        case $package in nginx-light) package="nginx nginx-common" ;; esac # which hold its units
        # shellcheck disable=SC2086  # a list of names
        for unit in $(dpkg -L $package 2>/dev/null | grep -E '/systemd/system/[^/@]+\.(service|socket|target|timer)$'); do
            systemctl disable --quiet "${unit##*/}" 2>/dev/null || true
        done
    done
}
