#!/bin/sh
# Set up a checkout: Debian packages that are missing, the virtual environment, the package with its extra.
# Usage: setup.sh training|test   (environment: PYTHON, VENV). Safe to run again; does nothing when nothing changed.
set -eu
extra="$1"
python="${PYTHON:-python3}"
venv="${VENV:-.venv}"

say() { printf 'setup: %s\n' "$*"; }

# --- Debian packages -------------------------------------------------------------------------------------------------
packages="orthanc orthanc-dicomweb"
if [ "$extra" = test ]; then
    packages="$packages dcmtk dicom3tools postgresql redis-server rabbitmq-server faketime strace"
    # From wherever they come: a browser for the pages, npm for the viewer.
    command -v chromium >/dev/null 2>&1 || packages="$packages chromium"
    command -v npm >/dev/null 2>&1 || packages="$packages npm"
fi
"$python" -c 'import ensurepip' 2>/dev/null || packages="$packages python3-venv"

missing=""
for package in $packages; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
if [ -n "$missing" ]; then
    if ! command -v apt-get >/dev/null 2>&1; then
        say "this is no Debian; install yourself:$missing"
    else
        as_root=""
        [ "$(id -u)" -eq 0 ] || as_root="sudo"
        say "installing$missing"
        # The packages would start system services; ours run as ordinary processes on ports of their own.
        policy=""
        if [ ! -e /usr/sbin/policy-rc.d ]; then
            policy=/usr/sbin/policy-rc.d
            trap '$as_root rm -f "$policy"' EXIT INT TERM
            printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
            $as_root chmod +x "$policy"
        fi
        installed=yes
        { $as_root apt-get update -qq && $as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends $missing >/dev/null; } || installed=no
        [ -z "$policy" ] || { $as_root rm -f "$policy"; trap - EXIT INT TERM; }
        if [ "$installed" = no ]; then
            # The demonstration goes on without Orthanc; tests say themselves what they miss.
            say "could not install:$missing"
            "$python" -c 'import ensurepip' || exit 1
        fi
    fi
fi

# --- Python ----------------------------------------------------------------------------------------------------------
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { say "Python 3.11 or later is needed"; exit 1; }
[ -x "$venv/bin/python" ] || { say "creating $venv"; "$python" -m venv "$venv"; }
wanted="$extra $(cat pyproject.toml constraints.txt | sha256sum | cut -d' ' -f1) $(pwd)"
stamp="$venv/.chexnode-$extra"
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$wanted" ]; then
    say "installing chexnode[$extra] into $venv (about 6 GB with torch the first time)"
    PYTHONWARNINGS=ignore "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$extra]"
    printf '%s' "$wanted" >"$stamp"
fi
