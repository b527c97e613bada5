# Unpacks promtool from Debian's package prometheus into the working directory. Installing the package would
# start a server.
set -eu
root=
[ "$(id -u)" = 0 ] || root='sudo -n'
$root apt-get -o DPkg::Lock::Timeout=120 update
apt-get download prometheus
dpkg -x prometheus_*.deb .
