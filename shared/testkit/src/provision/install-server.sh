# Installs Debian's package $package, a server of which only the program is used. Run as root. The package would start a
# system service now, and again at each boot: neither happens.
set -eu
export DEBIAN_FRONTEND=noninteractive

mark='made by cargo xtask, to be removed'
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ] || grep -q "$mark" "$policy"; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 143' HUP INT TERM
    printf '#!/bin/sh\n# %s\nexit 101\n' "$mark" >"$policy"
    chmod 755 "$policy"
fi

# Another apt may be at work (a machine that updates itself after its start): wait for its locks.
attempt=1
until apt-get -o DPkg::Lock::Timeout=120 update &&
    apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "$package"; do
    [ "$attempt" -lt 3 ] || exit 1
    attempt=$((attempt + 1))
    sleep 5
done

if command -v systemctl >/dev/null; then
    systemctl disable "$package.service" || true
fi
