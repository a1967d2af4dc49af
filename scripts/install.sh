#!/usr/bin/env bash
# Installs the gateway as a service of this machine, upgrades it, or removes it: see --help.
set -euo pipefail

readonly HOME_DIR=/opt/beacon-gateway SETTINGS_DIR=/etc/beacon-gateway STATE_DIR=/var/lib/beacon-gateway
readonly RELEASES="$HOME_DIR/releases" CURRENT="$HOME_DIR/current"
readonly UNIT=gateway.service UNIT_DIR=/etc/systemd/system ACCOUNT=gateway
readonly RADIO_UNIT=gateway-radio.service RADIO_ACCOUNT=gateway-radio
readonly RADIO_RULES=70-beacon-gateway-radio.rules RULES_DIR=/etc/udev/rules.d
readonly COMMAND=/usr/local/bin/gateway COMPLETION=/usr/local/share/bash-completion/completions/gateway
readonly BROKER_FILE=/etc/mosquitto/conf.d/beacon-gateway.conf
readonly BROKER_MARK="# Made by the beacon gateway's install.sh."
readonly NEEDED_MIB=400
# EX_UNAVAILABLE: not on this machine. EX_TEMPFAIL: a person can mend it and call again.
readonly NOT_HERE=69 TRY_AGAIN=75

usage() {
  cat <<'TEXT'
Usage: sudo scripts/install.sh [--no-start] [--with-broker] [--compile] [--wheels FOLDER]
       sudo scripts/install.sh --uninstall [--purge [--yes]]

Installs this checkout into /opt/beacon-gateway as gateway.service, with the account `gateway`, the settings in
/etc/beacon-gateway and the state in /var/lib/beacon-gateway, and its radio helper as gateway-radio.service, with the account
`gateway-radio`. Called again, from the same checkout or a newer one, it upgrades:
the new version is made beside the old one and takes over when it is complete; if it does not start, the old one comes back.
Settings, credentials and state stay.

  --no-start      enable the service, but start it at the next boot only
  --with-broker   install Mosquitto here too, set up to lose nothing that it has acknowledged
  --compile       make machine code of what runs for every advertisement: that takes about half then, the installation longer
  --wheels FOLDER take the Python packages from FOLDER instead of the network; the hashes count here too
  --uninstall     stop the service and remove what was installed; settings, credentials and state stay
  --purge         with --uninstall: remove settings, credentials, state and the account too
  --yes           with --purge: do not ask
  --help          this text

Exit code: 0 done; 2 wrong call; 69 not on this machine; 75 mend what it says and call again.
Environment: PYTHON (interpreter, 3.11 or newer, readable by every account), and what pip and apt-get read.
TEXT
}

say() { printf '%s\n' "$@" >&2; }
give_up() { say "$@"; exit "$TRY_AGAIN"; }
not_here() { say "$@"; exit "$NOT_HERE"; }
wrong_call() { say "$1 See scripts/install.sh --help."; exit 2; }

scratch=""
unfinished=""

_clean() {
  if [[ -n $unfinished ]]; then
    rm -rf "$unfinished"
    rmdir "$RELEASES" "$HOME_DIR" 2>/dev/null || true
  fi
  [[ -z $scratch ]] || rm -rf "$scratch"
}

# Run a program and show the end of what it said only if it fails.
quietly() {
  "$@" >"$scratch/log" 2>&1 </dev/null || {
    local status=$?
    [[ ! -s $scratch/log ]] || { say "The end of what it said:" && tail -n 15 "$scratch/log" | sed 's/^/  /' >&2; }
    return "$status"
  }
}

systemd_runs() { [[ -d /run/systemd/system ]]; }
is_active() { systemd_runs && systemctl --quiet is-active "$UNIT"; }
reload_systemd() { ! systemd_runs || systemctl daemon-reload; }

# Two of these at once would take each other's release away. The lock is on the folder itself: no file is left.
only_one() {
  exec {held}</opt
  flock --nonblock "$held" || give_up "Another install.sh is running; wait for it and call again."
}

# ---- checks: nothing is changed before all of them have passed -----------------------------------------------------------------

check_root() {
  [[ $EUID -eq 0 ]] || give_up "Installing and removing needs root: sudo $0${*:+ $*}"
}

check_system() {
  local id="" like="" bits
  # shellcheck source=/dev/null
  [[ ! -r /etc/os-release ]] || read -r id like < <(. /etc/os-release && echo "${ID:-unknown} ${ID_LIKE:-}")
  [[ " $id $like " == *" debian "* ]] && command -v dpkg >/dev/null && command -v apt-get >/dev/null ||
    not_here "This installs on Debian 12 or newer and Raspberry Pi OS (bookworm or newer); this is ${id:-an unknown system}."
  # Of the programs, not of the kernel: Raspberry Pi OS comes with 32-bit programs under a 64-bit kernel too.
  bits="$(dpkg --print-architecture)"
  [[ $bits == amd64 || $bits == arm64 ]] ||
    not_here "A 64-bit system is needed (arm64 or amd64) and this one is $bits; the 64-bit Raspberry Pi OS fits a Pi 3 or newer."
  command -v systemctl >/dev/null || not_here "systemd is needed and systemctl is not here."
}

check_room() {
  local room
  room="$(df --output=avail --block-size=1M /opt | tail -n 1)"
  ((room >= NEEDED_MIB)) || give_up "/opt has $((room)) MiB left and $NEEDED_MIB are needed; make room and call again."
}

check_accounts() {
  local account entry
  for account in "$ACCOUNT" "$RADIO_ACCOUNT"; do
    entry="$(getent passwd "$account")" || continue
    (($(cut -d: -f3 <<<"$entry") < 1000)) ||
      give_up "There is a person's account called $account, so the service cannot have it. Rename that one (usermod --login)."
  done
}

check_command() {
  [[ ! -e $COMMAND && ! -L $COMMAND ]] || [[ -L $COMMAND && $(readlink "$COMMAND") == "$HOME_DIR"/* ]] ||
    give_up "$COMMAND is there and belongs to something else. Move it away and call again."
}

# ---- parts ---------------------------------------------------------------------------------------------------------------------

install_packages() {
  local package
  local -a missing=()
  for package in "$@"; do
    [[ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" == installed ]] || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  say "Installing Debian packages: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  { quietly apt-get update -qq && quietly apt-get install -qq -y --no-install-recommends "${missing[@]}"; } ||
    give_up "apt-get could not install them. Check the network, then call again."
}

# Sets python. The system's own: one below a home folder could not be seen by the service.
find_python() {
  python="${PYTHON:-/usr/bin/python3}"
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    not_here "Python 3.11 or newer is needed, but $python is older or does not run. Debian 12 and newer bring it."
  python="$("$python" -c 'import sys; print(sys.executable)')"
  case "$(readlink -f "$python")" in
  /root/* | /home/* | /run/user/*)
    give_up "$python lies in a home folder, which the service cannot see. Name another: PYTHON=/usr/bin/python3"
    ;;
  esac
}

# Everything of one version in one folder, with its environment; sets release.
make_release() {
  local version
  version="$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$source_dir/gateway/__init__.py")"
  mkdir -p "$RELEASES"
  unfinished="$(mktemp -d "$RELEASES/$version-XXXXXX")"
  release="$unfinished"
  chmod 755 "$release"
  local part
  for part in README.md CHANGELOG.md LICENSE docs firmware_configs systemd; do
    cp -r --no-preserve=all "$source_dir/$part" "$release/"
  done
  install -D -m 755 "$source_dir/scripts/install.sh" "$release/scripts/install.sh"

  say "Making the environment of version $version, each package checked against its hash (some minutes on a Pi)."
  quietly "$python" -m venv "$release/.venv" || give_up "Python could not make a virtual environment."
  local -a pip=("$release/.venv/bin/python" -m pip install --quiet)
  local -a from=()
  [[ -z $wheels ]] || from=(--no-index --find-links "$wheels")
  export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
  quietly "${pip[@]}" --require-hashes --requirement "$source_dir/requirements.lock" "${from[@]}" ||
    give_up "The Python packages could not be installed. Check the network (pip reads its usual settings) and call again."
  # From a copy, so that nothing is written into the checkout; without an index: flit_core came with the lock.
  mkdir "$scratch/source"
  cp -r "$source_dir"/{pyproject.toml,README.md,LICENSE,gateway} "$scratch/source/"
  find "$scratch/source" -name __pycache__ -prune -exec rm -rf {} +
  quietly "${pip[@]}" --no-index --no-deps --no-build-isolation "$scratch/source" ||
    give_up "The gateway itself could not be installed into $release/.venv."
  [[ -z $compile ]] || compile_release
  quietly "$release/.venv/bin/gateway" --version || give_up "What has been installed does not run."
}

# Whoever compiled once should not find out from a busy processor that an upgrade does not.
warn_of_slower() {
  [[ -z $compile && -n "$(find "$CURRENT/.venv/lib" -path '*/site-packages/gateway/*.so' -print -quit 2>/dev/null)" ]] || return 0
  say "The version here is compiled, and without --compile the new one is not: each advertisement will cost as much as before again."
}

# Machine code beside the source of the hot modules, where Python finds it first.
compile_release() {
  local -a compiler=("$scratch/compiler/bin/python")
  say "Compiling what runs for every advertisement (minutes, and many on a Pi)."
  { quietly "$python" -m venv "$scratch/compiler" &&
    quietly "${compiler[@]}" -m pip install --quiet --require-hashes --requirement "$source_dir/requirements-compile.lock" "${from[@]}" &&
    quietly "${compiler[@]}" "$source_dir/scripts/lib/compiled.py" "$scratch/compiled"; } ||
    give_up "The gateway could not be compiled; without --compile it is installed as it is."
  local packages
  packages="$("$release/.venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')"
  (cd "$scratch/compiled" && find . -name '*.so' -exec cp --parents --no-preserve=ownership {} "$packages" \;)
}

make_account() {
  getent group "$1" >/dev/null || groupadd --system "$1"
  getent passwd "$1" >/dev/null || useradd --system --gid "$1" --no-create-home --home-dir /nonexistent \
    --shell /usr/sbin/nologin --comment "$2" "$1"
}

remove_account() {
  ! getent passwd "$1" >/dev/null || userdel "$1"
  ! getent group "$1" >/dev/null || groupdel "$1"
}

make_folders() {
  install -d -m 750 -o root -g "$ACCOUNT" "$SETTINGS_DIR"
  install -d -m 700 -o root -g root "$SETTINGS_DIR/credentials"
  install -d -m 700 -o "$ACCOUNT" -g "$ACCOUNT" "$STATE_DIR"
  [[ -e $SETTINGS_DIR/gateway.toml ]] ||
    install -m 640 -o root -g "$ACCOUNT" "$source_dir/systemd/gateway.toml" "$SETTINGS_DIR/gateway.toml"
}

# Sets problem to what `gateway run` would say of the settings, as the account it runs under; empty when they are in order.
check_settings() {
  problem="$(cd / && setpriv --reuid="$ACCOUNT" --regid="$ACCOUNT" --init-groups "$release/.venv/bin/python" -c '
import sys
from pathlib import Path
from gateway.contract.settings import Settings, read_settings
from gateway.core.sanitiser import printable
from gateway.errors import ConfigurationError
try:
    read_settings(Path(sys.argv[1]), Settings)
except ConfigurationError as error:
    print(printable(error, limit=1000))
' "$SETTINGS_DIR/gateway.toml" 2>&1)" || give_up "The settings could not be checked:" "  $problem"
}

switch_to() {
  ln -sfn "$1" "$HOME_DIR/.current.new"
  mv -T "$HOME_DIR/.current.new" "$CURRENT"
  install -m 644 "$1/systemd/$UNIT" "$UNIT_DIR/$UNIT"
  # A version from before the radio helper has no unit for it.
  if [[ -e $1/systemd/$RADIO_UNIT ]]; then
    install -m 644 "$1/systemd/$RADIO_UNIT" "$UNIT_DIR/$RADIO_UNIT"
  elif [[ -e $UNIT_DIR/$RADIO_UNIT ]]; then
    ! systemd_runs || systemctl stop "$RADIO_UNIT" || true
    rm -f "$UNIT_DIR/$RADIO_UNIT"
  fi
  reload_systemd
}

# Adapters that are there already get their new owner too.
let_helper_reset_adapters() {
  [[ -d $RULES_DIR ]] || return 0
  install -m 644 "$release/systemd/$RADIO_RULES" "$RULES_DIR/$RADIO_RULES"
  reload_udev
}

# Nothing to complain of where udev does not run, as in a container.
reload_udev() {
  ! systemd_runs || { udevadm control --reload && udevadm trigger --subsystem-match=usb; } >/dev/null 2>&1 || true
}

# Without its helper the gateway works too, with worse ears: no reason to give up.
restart_helper() {
  quietly systemctl restart "$RADIO_UNIT" ||
    say "The radio helper does not start, so the gateway hears less: journalctl -u $RADIO_UNIT -n 20"
}

# Older versions, and what an interrupted call left behind.
remove_all_but() {
  find "$RELEASES" -mindepth 1 -maxdepth 1 ! -path "$1" -exec rm -rf {} +
}

# Whose first line another hand has written is another's.
broker_file_is_ours() {
  [[ $(head -n 1 "$BROKER_FILE") == "$BROKER_MARK" ]]
}

set_up_broker() {
  install_packages mosquitto
  if [[ -e $BROKER_FILE ]] && ! broker_file_is_ours; then
    say "$BROKER_FILE is somebody else's and stays as it is: look whether it has the settings of docs/operator.md."
    return
  fi
  # Debian's defaults forget acknowledged messages when the power goes, and drop a subscriber's after 1000.
  cat >"$scratch/broker" <<TEXT
$BROKER_MARK
autosave_interval 1
autosave_on_changes true
max_queued_messages 100000
set_tcp_nodelay true
TEXT
  cmp -s "$scratch/broker" "$BROKER_FILE" && return
  install -m 644 "$scratch/broker" "$BROKER_FILE"
  ! systemd_runs || quietly systemctl restart mosquitto.service || give_up "Mosquitto does not start: journalctl -u mosquitto"
}

add_completion() {
  mkdir -p "$(dirname "$COMPLETION")"
  if _GATEWAY_COMPLETE=source_bash "$COMMAND" >"$scratch/completion"; then
    install -m 644 "$scratch/completion" "$COMPLETION"
  else
    say "The shell's completion could not be made; everything else is in place."
  fi
}

# ---- the two calls -------------------------------------------------------------------------------------------------------------

install_gateway() {
  local before="" was_active="" state problem release python
  check_system
  check_room
  check_accounts
  check_command
  only_one
  warn_of_slower
  umask 022
  install_packages python3 python3-venv bluez
  [[ -z $compile ]] || install_packages gcc libc6-dev python3-dev
  find_python
  make_account "$ACCOUNT" "Beacon gateway"
  make_account "$RADIO_ACCOUNT" "Radio helper of the beacon gateway"
  make_folders
  make_release
  [[ ! -L $CURRENT ]] || before="$(readlink -f "$CURRENT")"
  ! is_active || was_active=yes
  check_settings
  [[ -z $problem || -z $was_active ]] ||
    give_up "The new version does not accept the settings, so the old one stays and runs. $problem"
  [[ -z $with_broker ]] || set_up_broker

  unfinished=""
  switch_to "$release"
  ln -sfn "$CURRENT/.venv/bin/gateway" "$COMMAND"
  let_helper_reset_adapters
  quietly systemctl enable "$UNIT" "$RADIO_UNIT" || give_up "$UNIT could not be enabled."
  state=enabled
  if [[ -z $problem && -z $no_start ]] && systemd_runs; then
    restart_helper
    if ! quietly systemctl restart "$UNIT"; then
      systemctl stop "$UNIT" || true
      if [[ -n $before ]]; then
        switch_to "$before"
        rm -rf "$release"
        [[ ! -e $UNIT_DIR/$RADIO_UNIT ]] || restart_helper
        [[ -z $was_active ]] || quietly systemctl start "$UNIT" || true
        is_active && state="is back and runs" || state="is back"
        give_up "The new version does not start, so the old one $state. Why: journalctl -u $UNIT -n 50"
      fi
      give_up "The service does not start. Why: journalctl -u $UNIT -n 50"
    fi
    state="enabled and running"
  fi
  # Not while a service runs that was not restarted: it would lose what it has not loaded yet.
  [[ -n $was_active && $state == enabled ]] || remove_all_but "$release"
  add_completion

  printf 'Installed: beacon gateway %s in %s, the command `gateway`, %s (%s).\n' \
    "$(basename "${release%-*}")" "$HOME_DIR" "$UNIT" "$state"
  local next="gateway doctor, which says what is still missing."
  [[ $state != enabled ]] || next="sudo systemctl restart gateway, or boot."
  systemd_runs || next="boot; systemd does not run here, so nothing was started."
  [[ -z $problem ]] ||
    next="sudoedit $SETTINGS_DIR/gateway.toml, then sudo systemctl restart gateway. Not in order yet: ${problem#*: }"
  printf 'Next: %s\n' "$next"
  printf 'Status: gateway status, for root and the members of the group %s (sudo adduser NAME %s); journalctl -u gateway\n' \
    "$ACCOUNT" "$ACCOUNT"
}

uninstall_gateway() {
  if [[ -n $purge && -z $yes ]]; then
    local answer=""
    say "This removes settings and credentials in $SETTINGS_DIR and the database in $STATE_DIR, with what is not delivered yet."
    read -r -p "Type purge to go on: " answer || true
    [[ $answer == purge ]] || give_up "Nothing has been removed."
  fi
  only_one
  local unit
  for unit in "$UNIT" "$RADIO_UNIT"; do
    [[ -e $UNIT_DIR/$unit ]] || continue
    if systemd_runs; then
      quietly systemctl stop "$unit" || give_up "$unit could not be stopped."
      systemctl reset-failed "$unit" 2>/dev/null || true
    fi
    quietly systemctl disable "$unit" || true
  done
  rm -f "$UNIT_DIR/$UNIT" "$UNIT_DIR/$RADIO_UNIT" "$RULES_DIR/$RADIO_RULES" "$COMPLETION"
  reload_udev
  # Not if somebody else has put something there too.
  rmdir "${COMPLETION%/*}" "${COMPLETION%/*/*}" 2>/dev/null || true
  [[ ! -L $COMMAND || $(readlink "$COMMAND") != "$HOME_DIR"/* ]] || rm -f "$COMMAND"
  rm -rf "$HOME_DIR"
  if [[ -e $BROKER_FILE ]] && broker_file_is_ours; then
    rm -f "$BROKER_FILE"
    ! systemd_runs || systemctl --quiet try-restart mosquitto.service || true
  fi
  if [[ -n $purge ]]; then
    rm -rf "$SETTINGS_DIR" "$STATE_DIR" "$UNIT_DIR/$UNIT.d" "$UNIT_DIR/$RADIO_UNIT.d"
    check_accounts
    remove_account "$ACCOUNT"
    remove_account "$RADIO_ACCOUNT"
  fi
  reload_systemd
  if [[ -n $purge ]]; then
    printf 'Removed: the service, %s, settings, credentials, state and the account. Debian packages stay.\n' "$HOME_DIR"
  else
    printf 'Removed: the service and %s. Settings stay in %s, state in %s; --purge removes them too.\n' \
      "$HOME_DIR" "$SETTINGS_DIR" "$STATE_DIR"
  fi
}

main() {
  local uninstall="" purge="" yes="" no_start="" with_broker="" compile="" wheels="" source_dir
  local -a given=("$@")
  while (($#)); do
    case "$1" in
    --uninstall) uninstall=yes ;;
    --purge) purge=yes ;;
    --yes) yes=yes ;;
    --no-start) no_start=yes ;;
    --with-broker) with_broker=yes ;;
    --compile) compile=yes ;;
    --wheels) wheels="${2:-}" && [[ -d $wheels ]] || wrong_call "--wheels needs a folder that exists."
      wheels="$(readlink -f "$wheels")" && shift ;;
    --help | -h) usage && exit 0 ;;
    *) wrong_call "scripts/install.sh does not know $1." ;;
    esac
    shift
  done
  [[ -z $purge || -n $uninstall ]] || wrong_call "--purge goes with --uninstall."
  [[ -z $yes || -n $purge ]] || wrong_call "--yes goes with --purge."
  [[ -z $uninstall || -z $no_start$with_broker$compile$wheels ]] || wrong_call "--uninstall goes with --purge and --yes alone."
  check_root "${given[@]}"
  # Whoever called from elsewhere in the PATH of an ordinary user finds the programs of an administrator too.
  export PATH="/usr/local/sbin:/usr/sbin:/sbin:$PATH"
  source_dir="$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)"
  scratch="$(mktemp -d)"
  trap _clean EXIT
  trap 'say "Interrupted."; exit 130' INT
  trap 'exit 143' TERM
  if [[ -n $uninstall ]]; then
    uninstall_gateway
  else
    [[ -f $source_dir/pyproject.toml && -f $source_dir/requirements.lock ]] ||
      wrong_call "$source_dir is what was installed; install from a checkout, or call with --uninstall."
    install_gateway
  fi
}

# In one piece, because --uninstall removes the very file that the shell is reading.
main "$@"
exit
