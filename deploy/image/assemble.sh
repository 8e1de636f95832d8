#!/bin/sh
# Puts together what the image holds: the program, the libraries it is linked with, the certificates that downloads
# are checked against, and the names of its user. No shell, no package manager, nothing else.
#
#   assemble.sh PROGRAM DIRECTORY
#
# makes DIRECTORY/root, which becomes the image's root, and DIRECTORY/models, which is empty and the user's own.
set -eu
program=$1
out=$2
root=$out/root

mkdir -p "$root/etc/ssl/certs" "$out/models"
install -m 0755 "$program" "$root/samosa"

# Lines of ldd are "name => path (address)", or "path (address)" for the loader itself.
ldd "$program" | grep -o '/[^ ]*' | sort -u | while read -r library; do
    install -D -m 0755 "$library" "$root$library"
done

install -m 0644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
echo 'samosa:x:65532:65532::/:/nonexistent' >"$root/etc/passwd"
echo 'samosa:x:65532:' >"$root/etc/group"
# glibc has both built in: names in /etc/hosts come before those that a name server knows.
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
