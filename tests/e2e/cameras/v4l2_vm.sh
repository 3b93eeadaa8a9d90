#!/bin/bash
# v4l2_vm.sh REPO SITE WORK: the tests that need a V4L2 camera, in a virtual machine with the kernel's test driver vivid.
# SITE is the site-packages of a Python 3.11 with PyAV, NumPy and pytest; WORK is kept and used again (300 MB download).
# Runs on Debian 12 x86-64 with root and the network of apt. Exit code: that of the tests, 77 when it can't be done here.
set -euo pipefail
repo=$(realpath "$1") site=$(realpath "$2"); mkdir -p "$3"; cd "$3"
for tool in qemu-system-x86_64 mmdebstrap depmod busybox cpio mke2fs; do
  command -v $tool >/dev/null || { echo "missing: $tool (apt install qemu-system-x86 seabios mmdebstrap busybox-static kmod cpio e2fsprogs)"; exit 77; }
done
wanted="vivid virtio_pci virtio_blk crc32c_generic ext4"

if [ ! -d kernel ]; then
  package=$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image/{print $2; exit}')
  apt-get -qq download "$package" || exit 77
  dpkg -x "$package"*.deb kernel.new && mv kernel.new kernel
fi
version=$(ls kernel/lib/modules); depmod -b "$PWD/kernel" "$version"
[ -f base.tar ] || { mmdebstrap --quiet --variant=minbase --include=python3 bookworm base.part.tar && mv base.part.tar base.tar; } || exit 77

rm -rf root start; mkdir -p root start/{bin,mod,proc,sys,dev,new}
tar -C root -xf base.tar
mkdir -p root/repo root/site root/mod
cp -a "$repo"/{agent,pyproject.toml} root/repo/
tar -C "$repo" --exclude=tests/data --exclude=__pycache__ -cf - tests | tar -C root/repo -xf -
for name in av av.libs numpy numpy.libs msgspec click rich markdown_it mdurl pygments pytest _pytest pluggy iniconfig packaging py.py pytest_timeout.py; do
  cp -a "$site/$name" root/site/
done
cp -a "$site"/pytest_timeout-*.dist-info root/site/
cp "$(command -v busybox)" root/bin/; cp "$(command -v busybox)" start/bin/
for module in $wanted; do modprobe -d "$PWD/kernel" -S "$version" --show-depends "$module" 2>/dev/null; done |
  awk '/^insmod/ && !seen[$2]++ {print $2}' | while read -r file; do
    cp "$file" root/mod/; cp "$file" start/mod/; basename "$file" >> root/mod/order
  done

cat > start/init <<'I'
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc; $b mount -t sysfs sysfs /sys; $b mount -t devtmpfs dev /dev
for try in 1 2 3; do for module in /mod/*; do $b insmod $module n_devs=1 2>/dev/null; done; done
for try in 1 2 3 4 5 6 7 8 9; do [ -b /dev/vda ] && break; $b sleep 0.2; done
$b mount -t ext4 /dev/vda /new || $b poweroff -f
for kind in proc sys dev; do $b mount --move /$kind /new/$kind; done
exec $b switch_root /new /run-tests
I
cat > root/run-tests <<'I'
#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PYTHONPATH=/repo:/site PYTHONDONTWRITEBYTECODE=1
mount -t tmpfs none /tmp; busybox ifconfig lo up 127.0.0.1; cd /repo
python3 -m pytest -p no:cacheprovider -q -rs tests/contract/test_source_contract.py tests/e2e/test_cameras.py \
  -k "v4l2 or device or two_programs or unplugged" </dev/null 2>&1
echo "exit code $?"; sync; busybox poweroff -f
I
chmod +x start/init root/run-tests
( cd start; find . | cpio -o -H newc 2>/dev/null | gzip -1 ) > start.gz
rm -f disk serial; truncate -s 1500M disk; mke2fs -q -t ext4 -d root disk
timeout 400 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -m 2048 -smp 2 -nodefaults -no-user-config -display none \
  -serial file:serial -kernel kernel/boot/vmlinuz-"$version" -initrd start.gz -append "console=ttyS0 root=/dev/vda rw quiet" \
  -drive file=disk,format=raw,if=virtio,cache=unsafe -no-reboot || true
rm -rf disk root start
cat serial
exit "$(tr -d '\r' < serial | awk '/^exit code /{code=$3} END{print code == "" ? 1 : code}')"
