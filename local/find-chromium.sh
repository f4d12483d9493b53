#!/bin/sh
# Print the path of Chromium or Chrome, for the browser tests. Where there is none, and this user may, Debian's is installed.
for candidate in "$CHROMIUM" chromium chromium-browser google-chrome-stable google-chrome; do
    if [ -n "$candidate" ] && found=$(command -v "$candidate"); then
        echo "$found"
        exit 0
    fi
done
if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
    {
        apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends chromium fonts-dejavu-core
    } >&2 && command -v chromium && exit 0
fi
echo "No Chromium on this machine, and it cannot be installed here; install it, or name one: CHROMIUM=/path make test" >&2
exit 1
