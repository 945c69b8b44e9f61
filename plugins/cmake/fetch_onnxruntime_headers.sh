#!/bin/sh
# Unpacks the headers of Debian's package libonnxruntime-dev (suite trixie, 85 kB) into the folder $1, through apt with
# lists, cache and sources of its own: nothing of the system changes, no right beyond the network is needed.
set -eu
folder=$1
suite=${2:-trixie}
for tool in apt-get dpkg-deb; do
  command -v $tool > /dev/null || { echo "no $tool on this machine" >&2; exit 1; }
done
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r "$keyring" ] || { echo "no $keyring to check the package with" >&2; exit 1; }
# The mirror that this machine uses, else Debian's own.
mirror=$(apt-get indextargets --format '$(SITE)' 2> /dev/null | grep -E 'debian' | grep -v security | head -n 1 || true)
mirror=${mirror:-http://deb.debian.org/debian}

rm -rf "$folder"
mkdir -p "$folder/apt/sources" "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial"
cd "$folder"
here=$(pwd)
echo "deb [signed-by=$keyring] $mirror $suite main" > apt/sources/debian.list
cat > apt/apt.conf << CONF
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$here/apt/sources";
Dir::State::lists "$here/apt/lists";
Dir::Cache "$here/apt/cache";
APT::Sandbox::User "";
Acquire::Retries "1";
Acquire::http::Timeout "20";
Acquire::Languages "none";
CONF
export APT_CONFIG="$here/apt/apt.conf"
apt-get --quiet=2 update
apt-get --quiet=2 download libonnxruntime-dev
dpkg-deb --extract libonnxruntime-dev_*.deb unpacked
mv unpacked/usr/include/onnxruntime include
rm -rf unpacked apt
