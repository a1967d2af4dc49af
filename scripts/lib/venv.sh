# Sourced by the scripts beside it: one virtual environment, made from a hash lock and kept up to date.
# Everything said here goes to stderr: the standard output of the scripts belongs to the programs they start.
# shellcheck shell=bash

ROOT="$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." && pwd)"
VENV="${GATEWAY_VENV:-.venv}"
[[ $VENV == /* ]] || VENV="$ROOT/$VENV"
readonly ROOT VENV
readonly STAMP="$VENV/.gateway-stamp" MARK="$VENV/.gateway-venv"

# EX_TEMPFAIL: a person can mend it and call again.
readonly TRY_AGAIN=75

# One line for each argument.
say() { printf '%s\n' "$@" >&2; }
give_up() { say "$@"; exit "$TRY_AGAIN"; }

child=""
scratch=""

_clean() {
  [[ -z $scratch ]] || rm -rf "$scratch"
  scratch=""
}

_interrupted() {
  trap '' INT TERM
  if [[ -n $child ]]; then
    # The whole group: venv starts ensurepip, pip starts build backends, and none may go on writing after we said goodbye.
    kill -TERM -- "-$child" 2>/dev/null || true
    wait "$child" 2>/dev/null || true
    local tries
    for ((tries = 0; tries < 20; tries++)); do
      kill -0 -- "-$child" 2>/dev/null || break
      sleep 0.05
    done
  fi
  say "Interrupted."
  exit "$1"
}

trap _clean EXIT
trap '_interrupted 130' INT
trap '_interrupted 143' TERM

# Run a program in its own process group and keep its words for the case that it fails. Ctrl-C then reaches only this shell, which
# ends the group with SIGTERM: Python answers SIGINT with a traceback, SIGTERM with silence. Killed that way pip leaves temporary
# folders behind, so it gets one of ours for them.
quietly() {
  local status=0
  scratch="${scratch:-$(mktemp -d)}"
  set -m
  TMPDIR="$scratch" "$@" >"$scratch/log" 2>&1 </dev/null &
  child=$!
  set +m
  wait "$child" 2>/dev/null || status=$?
  child=""
  # At once, not at the end: exec, with which the scripts end, runs no EXIT trap.
  ((status != 0)) || _clean
  return "$status"
}

show_log() {
  [[ -s $scratch/log ]] || return 0
  say "The end of what it said:"
  tail -n 15 "$scratch/log" | sed 's/^/  /' >&2
}

# Two lines: major.minor and a name for this very interpreter. Fails where the program does not really run: pyenv leaves
# python3.X on the path for versions that are not switched on.
_describe() {
  "$1" -c 'import platform, sys
print(*sys.version_info[:2], sep=".")
print(sys.implementation.cache_tag, platform.machine(), sys.base_prefix)' 2>/dev/null
}

# Sets python, python_version and python_id, or explains what is missing.
find_python() {
  local candidate described found=""
  local -a candidates=(python3 python3.13 python3.12 python3.11 python3.14)
  [[ -z ${PYTHON:-} ]] || candidates=("$PYTHON")
  for candidate in "${candidates[@]}"; do
    described="$(_describe "$candidate")" || continue
    python_version="${described%%$'\n'*}"
    python_id="${described#*$'\n'}"
    if [[ ${python_version%%.*} -eq 3 && ${python_version#*.} -ge 11 ]]; then
      python="$(command -v "$candidate")"
      return
    fi
    found="${found:+$found, }$candidate is $python_version"
  done
  if [[ -n ${PYTHON:-} ]]; then
    give_up "Python 3.11 or newer is needed, but PYTHON=$PYTHON ${found:+names an older one ($found)}${found:-does not run}." \
      "Name another one: PYTHON=/path/to/python3.11 $0"
  fi
  if [[ -n $found ]]; then
    give_up "Python 3.11 or newer is needed; found only: $found." \
      "Debian 12 and Raspberry Pi OS (bookworm) or newer bring it; or name one: PYTHON=/path/to/python3.11 $0"
  fi
  give_up "Python 3.11 or newer is needed and none was found. On Debian or Raspberry Pi OS type this and call again:" \
    "  sudo apt-get install python3 python3-venv"
}

# apt_install PURPOSE PACKAGE...: install where root or passwordless sudo permits, else print the one line to type.
# Nothing it installs is started, now or at the next boot: a broker of the system's own would surprise whoever only wanted tests.
apt_install() {
  local purpose="$1" line
  shift
  line="sudo apt-get install --no-install-recommends $*"
  command -v apt-get >/dev/null ||
    give_up "$purpose: these Debian packages or what your system calls them are needed: $*. Install them and call again."
  local -a as_root=()
  if [[ $EUID -ne 0 ]]; then
    { command -v sudo && sudo -n true; } >/dev/null 2>&1 ||
      give_up "$purpose: packages are missing and may not be installed from here. Type this and call again:" "  $line"
    as_root=(sudo -n)
  fi
  say "$purpose: installing with apt-get: $*"
  scratch="${scratch:-$(mktemp -d)}"
  # In the foreground, unlike the rest: apt-get itself knows when an interrupt would leave dpkg half done.
  # shellcheck disable=SC2016
  "${as_root[@]}" sh -c '
    policy=/usr/sbin/policy-rc.d
    trap "exit 130" INT TERM
    if [ ! -e "$policy" ] && [ ! -L "$policy" ]; then
      trap "rm -f $policy" EXIT
      printf "#!/bin/sh\nexit 101\n" >"$policy" && chmod 755 "$policy" || exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends "$@" || exit 1
    case " $* " in
    *" mosquitto "*) ! command -v systemctl || systemctl disable mosquitto.service || : ;;
    esac
  ' sh "$@" >"$scratch/log" 2>&1 </dev/null || {
    show_log
    give_up "$purpose: apt-get could not install the packages. Check the network, then type this and call again:" "  $line"
  }
  _clean
}

_need_ensurepip() {
  "$python" -c 'import ensurepip, venv' 2>/dev/null && return
  local real package=python3-venv
  real="$(readlink -f "$python")"
  [[ $real == /usr/bin/python3* ]] ||
    give_up "$python has no ensurepip, so it cannot make a virtual environment." \
      "Name a complete one: PYTHON=/path/to/python3.11 $0"
  [[ $real == "$(readlink -f /usr/bin/python3)" ]] || package="python$python_version-venv"
  apt_install "Python's venv module" "$package"
}

_sha() { sha256sum <"$1" | cut -c1-64; }

# What must be unchanged for the environment to be used as it is. The path of the checkout belongs to it: commands in a virtual
# environment begin with their absolute path, so one that was moved or copied is broken although its python runs.
_basis() {
  printf 'python %s\ncheckout %s at %s\npyproject %s\n' "$python_id" "$ROOT" "$VENV" "$(_sha "$ROOT/pyproject.toml")"
}

_lock_file() {
  printf '%s/requirements-%s.lock' "$ROOT" "$1"
}

_stamp_lines() {
  _basis
  if [[ $1 == bench || $1 == fuzz ]]; then
    printf '%s %s\n' "$1" "$(_sha "$(_lock_file "$1")")"
    return
  fi
  printf 'demo %s\n' "$(_sha "$(_lock_file demo)")"
  # The test lock holds everything of the demo lock, so this environment satisfies both.
  [[ $1 != test ]] || printf 'test %s\n' "$(_sha "$(_lock_file test)")"
}

# up_to_date demo|test|bench|fuzz
up_to_date() {
  [[ -f $STAMP && -x $VENV/bin/python && -x $VENV/bin/gateway ]] || return 1
  local stamped line
  stamped="$(<"$STAMP")"
  while read -r line; do
    [[ $'\n'$stamped$'\n' == *$'\n'"$line"$'\n'* ]] || return 1
  done < <(_stamp_lines "$1")
  # Last, because it costs the most: an interpreter that was removed or upgraded leaves dangling links behind.
  [[ "$(_describe "$VENV/bin/python")" == "$python_version"$'\n'"$python_id" ]]
}

_may_build_on() {
  # Without a stamp the last installation was interrupted and pip cannot be trusted to notice what is half written.
  [[ -f $STAMP ]] && grep -qxF "$(_basis | head -n 1)" "$STAMP" && grep -qxF "$(_basis | sed -n 2p)" "$STAMP" &&
    [[ "$(_describe "$VENV/bin/python")" == "$python_version"$'\n'"$python_id" ]] &&
    "$VENV/bin/python" -c 'import pip' 2>/dev/null
}

_new_venv() {
  if [[ -e $VENV ]]; then
    [[ -f $VENV/pyvenv.cfg || -f $MARK ]] || rmdir "$VENV" 2>/dev/null ||
      give_up "$VENV is there and is no virtual environment, so it is left alone." \
        "Move it away, or name another folder: GATEWAY_VENV=.venv-other $0"
  fi
  _need_ensurepip
  if [[ -e $VENV ]]; then
    say "Making $VENV anew with Python $python_version (it was incomplete, moved, or made by another Python)."
  else
    say "Making $VENV with Python $python_version."
  fi
  # The mark says that the folder is ours while it does not yet, or no longer, look like a virtual environment.
  { mkdir -p "$VENV" && : >"$MARK" && rm -f "$STAMP" &&
    find "$VENV/" -mindepth 1 -maxdepth 1 ! -path "*/${MARK##*/}" -exec rm -rf {} +; } ||
    give_up "$VENV cannot be written. Name another folder: GATEWAY_VENV=/some/folder $0"
  quietly "$python" -m venv "$VENV" || {
    show_log
    give_up "Python could not make the virtual environment $VENV."
  }
}

_pip() {
  # A person's pip settings stay in force (mirrors, certificates), except the one that would install outside the environment.
  PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PYTHONHOME= quietly "$VENV/bin/python" -m pip install --quiet "$@"
}

# ensure_venv demo|test|bench|fuzz: afterwards $VENV holds what the lock says and the checkout itself.
ensure_venv() {
  find_python
  ! up_to_date "$1" || return 0
  [[ ! -e $VENV || -w $VENV ]] ||
    give_up "$VENV has to be changed but is not yours to change; was it made by another user, or with sudo?" \
      "Remove it with the right to do so, or name another folder: GATEWAY_VENV=/some/folder $0"
  local lock held=""
  lock="$(_lock_file "$1")"
  # Two of these scripts at once must not write into one environment. The lock is on the checkout folder itself: no file is left.
  if command -v flock >/dev/null; then
    exec {held}<"$ROOT"
    flock --nonblock "$held" || {
      say "Another script is preparing the environment; waiting for it."
      flock "$held"
    }
    if up_to_date "$1"; then
      exec {held}<&-
      return
    fi
  fi
  _may_build_on || _new_venv
  rm -f "$STAMP"
  say "Installing the packages of $(basename "$lock"), each checked against its hash (a minute or two the first time)."
  _pip --require-hashes --requirement "$lock" || {
    show_log
    give_up "The packages could not be installed. Check the network (pip reads its usual settings) and call again."
  }
  # Without an index: flit_core came with the lock, so nothing unhashed is ever fetched.
  _pip --no-index --no-deps --no-build-isolation --editable "$ROOT" || {
    show_log
    give_up "The checkout itself could not be installed into $VENV."
  }
  _stamp_lines "$1" >"$STAMP.new"
  mv "$STAMP.new" "$STAMP"
  [[ -z $held ]] || exec {held}<&-
}
