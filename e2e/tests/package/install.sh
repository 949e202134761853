# Installs, upgrades and removes a package in a copy of this system that is gone afterwards, and says what came of each step.
# Runs as root in name spaces of its own: unshare --mount --net --pid --fork sh install.sh DIRECTORY OLD NEW
set -eu
directory=$1 old=$2 new=$3
ip link set lo up
mount -t tmpfs system "$directory"
mkdir "$directory/upper" "$directory/work" "$directory/root"
mount -t overlay system -o "lowerdir=/,upperdir=$directory/upper,workdir=$directory/work" "$directory/root"
cp "$old" "$directory/root/old.deb"
cp "$new" "$directory/root/new.deb"
mount -t proc proc "$directory/root/proc"
mount --bind /dev "$directory/root/dev"
exec chroot "$directory/root" sh -eu -c '
export DEBIAN_FRONTEND=noninteractive
rm -rf /run/systemd/system

# As its unit starts it.
start() {
    mkdir -p /run/plimsoll && chown plimsoll: /run/plimsoll
    setpriv --reuid plimsoll --regid plimsoll --init-groups --inh-caps=-all,+net_bind_service \
        --ambient-caps=-all,+net_bind_service --no-new-privs /usr/bin/plimsoll run > /tmp/log 2>&1 &
    pid=$!
    tries=0
    until curl -s http://127.0.0.1/ > /tmp/page; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || { cat /tmp/log; exit 1; }
        sleep 0.1
    done
}

dpkg -i /old.deb > /tmp/dpkg 2>&1 || { cat /tmp/dpkg; exit 1; }
echo "installed $(dpkg-query -W -f "\${Version} \${Status}" plimsoll)"
plimsoll check
start
echo "serves: $(cat /tmp/page)"
echo "as $(stat -c %U /proc/$pid), rights: $(grep CapEff /proc/$pid/status | cut -f2)"
echo "told: $(plimsoll status | grep -c 0.0.0.0:80)$(plimsoll status | grep -c "\[::\]:80")"
kill $pid && wait $pid && echo stopped

echo "# by people" >> /etc/plimsoll/plimsoll.conf
dpkg -i --force-confold /new.deb > /tmp/dpkg 2>&1 || { cat /tmp/dpkg; exit 1; }
echo "upgraded $(dpkg-query -W -f "\${Version}" plimsoll), kept: $(tail -n 1 /etc/plimsoll/plimsoll.conf)"
start
echo "serves: $(cat /tmp/page)"
kill $pid && wait $pid && echo stopped

dpkg --purge plimsoll > /tmp/dpkg 2>&1 || { cat /tmp/dpkg; exit 1; }
echo "left: $(ls -d /usr/bin/plimsoll /etc/plimsoll /var/lib/plimsoll 2> /dev/null)"
'
