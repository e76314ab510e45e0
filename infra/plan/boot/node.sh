set -Eeuo pipefail
umask 022
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive

readonly BOOT_S=1200 # all steps together
readonly CALL_S=60 # one call to the cloud
readonly END_S=60 # after a fault: each of its status, its group's size, its power
readonly TRIES=5 REFUSED=65 TOLD=143
readonly WORK=/run/atoll-boot OWN=/var/lib/atoll CODE=/opt/atoll/${SHA256:0:12} VENV=/opt/atoll/venv

STEP=begin LINE=0 END=$BOOT_S NODE='' ADDRESS=''

log() { printf 'atoll-boot: %s\n' "$*" >&2; }

step() {
  STEP=$1
  rm -f "$WORK/said"
  log "$STEP, after $SECONDS s"
}

within() { # SECONDS COMMAND...: what it says is shown, and kept for the reason
  local limit=$1 left=$((END - SECONDS)) status=0
  shift
  if ((left < limit)); then limit=$left; fi
  if ((limit <= 0)); then
    echo "no time is left" >"$WORK/said"
    return 124
  fi
  timeout -k 5 "$limit" "$@" >"$WORK/said" 2>&1 || status=$?
  if ((status == 124 || status == 137)); then echo "not done within $limit s" >>"$WORK/said"; fi
  cat "$WORK/said" >&2
  return "$status"
}

again() { # COMMAND...: tried TRIES times, with pauses of 1, 2, 4 and 8 s
  local try status
  for ((try = 1; ; try++)); do
    status=0
    "$@" || status=$?
    if ((status == 0 || status == REFUSED || try == TRIES || SECONDS >= END)); then
      return "$status"
    fi
    sleep $((1 << (try - 1)))
  done
}

cloud() { within "$CALL_S" python3 -I "$WORK/on_cloud.py" "$PLACE" "$@"; }

on_node() { within "$CALL_S" python3 -I "$WORK/on_node.py" "$@"; }

present() { # STATE WHY
  on_node presence "$WORK/template.json" "$NODE" "$ADDRESS" "$$" "$1" "$2" "$WORK/presence" &&
    again cloud put "$WORK/presence" "$CONTROL/nodes/$NODE"
}

finish() { # STATUS: at a fault say why, then stop the bill
  local status=$1 state=failed why
  trap - ERR EXIT
  trap : HUP INT TERM
  set +e
  if ((status == 0)); then return; fi
  if ((status == REFUSED)); then state=refused; fi
  if ((status == TOLD)); then state=stopped; fi
  why=$(tail -c 400 "$WORK/said" 2>/dev/null | tr -s '[:space:]' ' ')
  why="boot: $STEP: line $LINE: status $status: $why"
  log "$state: $why"
  END=$((SECONDS + END_S))
  if [[ -z $NODE ]]; then
    log "presence not written: this node does not know its name"
  elif ! present "$state" "$why"; then
    log "presence not written"
  fi
  # Who is told to end, as by a reclaim, leaves its group as it is.
  if [[ $ROLE == training ]] && ((status != TOLD)); then
    END=$((SECONDS + END_S))
    again cloud leave || log "the size of the group stays"
  fi
  log "power off"
  timeout -k 5 "$END_S" systemctl poweroff || timeout -k 5 "$END_S" shutdown -P now || log "still on"
  exit "$status"
}

trap 'LINE=$LINENO' ERR
trap 'finish $?' EXIT
trap 'exit $TOLD' HUP INT TERM

step "working folder"
install -d -m 700 "$WORK"
printf %s "$TEMPLATE" >"$WORK/template.json"
printf '%s\n' "$INSTALLER" >"$WORK/installer.lock"
cat >"$WORK/on_cloud.py" <<'END_OF_PROGRAM'
@on_cloud.py@
END_OF_PROGRAM
cat >"$WORK/on_node.py" <<'END_OF_PROGRAM'
@on_node.py@
END_OF_PROGRAM

step identity
again cloud identity "$WORK/identity"
{ read -r INSTANCE && read -r ADDRESS; } <"$WORK/identity"
NODE=$POOL-$INSTANCE
log "node $NODE at $ADDRESS"

step presence
present starting ''

step bundle
again cloud get "$BUNDLE/$SHA256" "$WORK/bundle"
on_node unpack "$WORK/bundle" "$SHA256" "$CODE"

step user
id -u atoll >/dev/null 2>&1 ||
  within "$CALL_S" useradd --system --user-group --home-dir "$OWN" --shell /usr/sbin/nologin atoll

step installer
# Ubuntu's cloud images have Python, but neither pip nor what `python3 -m venv` takes it from.
if ! python3 -c 'import ensurepip' 2>/dev/null; then
  again within "$BOOT_S" apt-get -q -o DPkg::Lock::Timeout=120 update
  again within "$BOOT_S" apt-get -q -y -o DPkg::Lock::Timeout=120 \
    install --no-install-recommends python3-venv
fi
within "$BOOT_S" python3 -m venv /opt/atoll/installer
again within "$BOOT_S" /opt/atoll/installer/bin/python -m pip install --quiet --no-input \
  --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
  -r "$WORK/installer.lock"

step packages
within "$BOOT_S" /opt/atoll/installer/bin/uv venv --quiet --clear \
  --python "$(command -v python3)" "$VENV"
again within "$BOOT_S" /opt/atoll/installer/bin/uv pip sync --quiet --no-build \
  --require-hashes --python "$VENV/bin/python" "$CODE/runtime/requirements.lock"

step "node file"
install -d -m 755 -o atoll -g atoll "$OWN"
on_node describe "$WORK/template.json" "$NODE" "$ADDRESS" "$OWN/node.json"

step unit
install -m 644 "$WORK/on_cloud.py" /opt/atoll/on_cloud.py
printf %s "$PLACE" >/opt/atoll/place
printf %s "$UNIT" >/etc/systemd/system/atoll.service
within "$CALL_S" systemctl daemon-reload
within "$CALL_S" systemctl enable --now atoll.service

step started
if [[ $ROLE != training ]]; then
  again cloud begin || log "the group does not know yet"
fi
rm -rf "$WORK"
