#!/bin/bash
# A machine that boots: first process of its own mount, pid and uts namespaces, on an overlay of /.
# rehearsal_machine.sh SHARED CACHE: SHARED holds `tree` (laid over /), `hostname` and `user-data`,
# and gets `console` and `status`; CACHE is uv's. Ends once SHARED/off is there.
set -eu
shared=$1 cache=$2
top=$shared/top root=$shared/top/root

mount --make-rprivate /
mount -t tmpfs -o size=3g tmpfs "$top"
mkdir "$top/up" "$top/work" "$root" "$top/cache-up" "$top/cache-work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$top/up,workdir=$top/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/dev"
for name in null zero random urandom full tty; do
  touch "$root/dev/$name"
  mount --bind "/dev/$name" "$root/dev/$name"
done
ln -s /proc/self/fd "$root/dev/fd"
for name in tmp run root dev/shm; do
  mkdir -p "$root/$name"
  mount -t tmpfs -o mode=1777 tmpfs "$root/$name"
done
mkdir -p "$root/mnt/shared" "$root/var/cache/uv"
mount --bind "$shared" "$root/mnt/shared"
mount -t overlay overlay \
  -o "lowerdir=$cache,upperdir=$top/cache-up,workdir=$top/cache-work" "$root/var/cache/uv"
cp -r --no-preserve=ownership "$shared/tree/." "$root/"
mkdir "$root/oldroot"
cd "$root"
pivot_root . oldroot
umount -l /oldroot
hostname "$(cat /mnt/shared/hostname)"

# As cloud-init starts a script: from a file, by its first line, with little around it.
install -D -m 700 /mnt/shared/user-data /var/lib/cloud/instance/scripts/part-001
status=0
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 /var/lib/cloud/instance/scripts/part-001 \
  </dev/null >/mnt/shared/console 2>&1 || status=$?
echo "$status" >/mnt/shared/status.partial
mv /mnt/shared/status.partial /mnt/shared/status
until [[ -e /mnt/shared/off ]]; do sleep 0.1; done
