#!/usr/bin/env bash
# Interoperation with Debian's mosquitto_pub, mosquitto_sub and mosquitto_rr.
# usage: mosquitto.sh HOST PORT WEBSOCKET_PORT
# These clients speak no WebSocket, so the third argument is ignored.
set -u

host=${1:?HOST} port=${2:?PORT}
run=interop-mosquitto-$$           # prefix of all topics and client ids of this run
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
passed=0 failed=0

at=(-h "$host" -p "$port")
pub() { timeout 10 mosquitto_pub "${at[@]}" "$@"; }
sub() { mosquitto_sub "${at[@]}" -W 5 "$@"; }
# A subscription for a second: prints what came and, for its time-out, "silence".
brief() {
  sub "$@" -W 1 2>/dev/null
  [[ $? == 27 ]] && echo silence
}

# listen NAME ARGS...: a subscriber in the background, returned from once the broker acknowledged it.
# It prints to $work/NAME, one message a line, behind '=' (-d puts the client's log beside them).
listen() {
  local name=$1; shift
  : >"$work/$name"
  stdbuf -oL mosquitto_sub "${at[@]}" -W 10 -d -F '=%p' "$@" >>"$work/$name" 2>&1 &
  eventually logged "$name" '^Subscribed'
}
logged() { grep -q -- "$2" "$work/$1"; }
messages() { sed -n 's/^=//p' "$work/$1"; }

eventually() { # up to 5 s
  for _ in $(seq 100); do "$@" && return; sleep 0.05; done
  return 1
}
got() { [[ $(messages "$1") == "$2" ]]; }

# equal NAME WANTED GOT
equal() {
  if [[ $2 == "$3" ]]; then
    echo "ok $1"; passed=$((passed + 1))
  else
    echo "FAIL $1: expected ${2@Q}, got ${3@Q}"; failed=$((failed + 1))
  fi
}
# receives NAME LISTENER WANTED: waits for the messages of a listener
receives() { eventually got "$2" "$3"; equal "$1" "$3" "$(messages "$2")"; }

for version in 311 5; do
  v=(-V $version) topic=$run/v$version
  # 3.1.1 sessions outlive a connection for good, those of 5.0 for as long as -x says.
  session=(-c); [[ $version == 5 ]] && session=(-c -x 60)

  pub "${v[@]}" -t "$topic/connect" -m hello; equal "v$version connect" 0 $?

  for qos in 0 1 2; do
    listen "qos$qos" "${v[@]}" -t "$topic/qos/+" -q $qos -C 1
    pub "${v[@]}" -t "$topic/qos/$qos" -q $qos -m "grüße $qos"
    receives "v$version publish and subscribe, QoS $qos" "qos$qos" "grüße $qos"
  done

  head -c 100000 /dev/urandom >"$work/payload"
  listen large "${v[@]}" -t "$topic/large" -q 1 -C 1 -F '=%x'
  pub "${v[@]}" -t "$topic/large" -q 1 -f "$work/payload"
  wait $! # for the listener to have its one message
  equal "v$version payload of 100 kB" "$(od -An -v -tx1 "$work/payload" | tr -d ' \n' | md5sum)" \
    "$(messages large | tr -d '\n' | md5sum)"

  pub "${v[@]}" -t "$topic/retained" -q 1 -r -m kept
  equal "v$version retained message" "1 kept" "$(sub "${v[@]}" -t "$topic/retained" -C 1 -F '%r %p')"
  pub "${v[@]}" -t "$topic/retained" -q 1 -r -n
  equal "v$version retained message removed" silence "$(brief "${v[@]}" -t "$topic/retained")"

  listen wills "${v[@]}" -t "$topic/will/+" -q 1
  listen dying "${v[@]}" -t "$topic/none" --will-topic "$topic/will/abnormal" --will-qos 1 --will-payload died
  { kill -9 $! && wait $!; } 2>/dev/null
  receives "v$version will after an abnormal end" wills died
  sub "${v[@]}" -t "$topic/none" -E --will-topic "$topic/will/normal" --will-payload wrong
  pub "${v[@]}" -t "$topic/will/last" -q 1 -m last
  receives "v$version no will after DISCONNECT" wills $'died\nlast'

  sub "${v[@]}" -i "$run-session" "${session[@]}" -t "$topic/session" -q 2 -E
  for qos in 1 2; do pub "${v[@]}" -t "$topic/session" -q $qos -m "missed $qos"; done
  # The other filter shows that the session, not a new subscription, brings the messages.
  equal "v$version persistent session" $'missed 1\nmissed 2' \
    "$(sub "${v[@]}" -i "$run-session" "${session[@]}" -t "$topic/other" -q 2 -C 2)"
  sub "${v[@]}" -i "$run-session" -t "$topic/other" -E
  pub "${v[@]}" -t "$topic/session" -q 1 -m lost
  equal "v$version session removed by a clean start" silence \
    "$(brief "${v[@]}" -i "$run-session" "${session[@]}" -t "$topic/other")"
  sub "${v[@]}" -i "$run-session" -t "$topic/other" -E
done

topic=$run/v5
v=(-V 5)

listen properties "${v[@]}" -t "$topic/properties" -q 1 -D subscribe subscription-identifier 42 \
  -F '=%p|%P|%C|%R|%D|%F|%S'
pub "${v[@]}" -t "$topic/properties" -q 1 -m '{}' \
  -D publish user-property b 1 -D publish user-property a 2 -D publish user-property b 3 \
  -D publish content-type application/json -D publish response-topic "$topic/answer" \
  -D publish correlation-data 4711 -D publish payload-format-indicator 1
receives "v5 properties of a message" properties "{}|b:1 a:2 b:3|application/json|$topic/answer|4711|1|42"

listen questions "${v[@]}" -t "$topic/question" -q 1 -C 1 -F '=%R %D %p'
(eventually logged questions '^=' && read -r answer correlation _ < <(messages questions) &&
  pub "${v[@]}" -t "$answer" -q 1 -D publish correlation-data "$correlation" -m pong) &
equal "v5 request and response" "pong" \
  "$(timeout 5 mosquitto_rr "${at[@]}" "${v[@]}" -t "$topic/question" -e "$topic/answer" -q 1 \
    -D publish correlation-data 0815 -m ping)"

sub "${v[@]}" -i "$run-expiry" -c -x 60 -t "$topic/expiry" -q 1 -E
pub "${v[@]}" -t "$topic/expiry" -q 1 -m short -D publish message-expiry-interval 1
pub "${v[@]}" -t "$topic/expiry" -q 1 -m long -D publish message-expiry-interval 60
sleep 2.1
read -r left message < <(sub "${v[@]}" -i "$run-expiry" -c -x 0 -t "$topic/other" -q 1 -C 1 -F '%E %p')
equal "v5 expired message dropped" long "$message"
equal "v5 message expiry counts down" 1 $((left <= 58 && left > 50))

# With -l the client sends the topic once, and the alias alone from then on.
listen alias "${v[@]}" -t "$topic/alias" -q 1
printf '%s\n' one two three | pub "${v[@]}" -t "$topic/alias" -q 1 -l -D publish topic-alias 1
receives "v5 topic alias from the client" alias $'one\ntwo\nthree'

listen receive-maximum "${v[@]}" -t "$topic/receive-maximum" -q 2 -D connect receive-maximum 1
seq 50 | pub "${v[@]}" -t "$topic/receive-maximum" -q 2 -l
receives "v5 receive maximum of 1" receive-maximum "$(seq 50)"

listen member1 "${v[@]}" -t "\$share/group/$topic/shared" -q 1
listen member2 "${v[@]}" -t "\$share/group/$topic/shared" -q 1
seq 10 29 | pub "${v[@]}" -t "$topic/shared" -q 1 -l
shared() { sort <(messages member1) <(messages member2); }
all_shared() { [[ $(shared) == "$(seq 10 29)" ]]; }
eventually all_shared; equal "v5 shared subscription, each message once" "$(seq 10 29)" "$(shared)"
both() { [[ $(messages member1) && $(messages member2) ]] && echo both; }
equal "v5 shared subscription, both members served" both "$(both)"

listen assigned "${v[@]}" -t "$topic/assigned"
equal "v5 assigned client id" 1 "$(grep -c '^Client [^(].* sending SUBSCRIBE' "$work/assigned")"

pub "${v[@]}" -t "$topic/published" -q 1 -r -m kept
listen as-published "${v[@]}" -t "$topic/published" -q 1 --retain-as-published -F '=%r %p'
pub "${v[@]}" -t "$topic/published" -q 1 -r -m again
receives "v5 retain as published" as-published $'1 kept\n1 again'
pub "${v[@]}" -t "$topic/published" -q 1 -r -n

sub "${v[@]}" -i "$run-short" -c -x 1 -t "$topic/short" -q 1 -E
sleep 2.1
pub "${v[@]}" -t "$topic/short" -q 1 -m lost
equal "v5 session expiry" silence \
  "$(brief "${v[@]}" -i "$run-short" -c -x 0 -t "$topic/other" -q 1)"

listen delayed "${v[@]}" -t "$topic/delayed"
listen dying "${v[@]}" -t "$topic/none" -x 60 --will-topic "$topic/delayed" --will-payload late -D will will-delay-interval 1
{ kill -9 $! && wait $!; } 2>/dev/null
sleep 0.5; equal "v5 will delay: not at once" "" "$(messages delayed)"
receives "v5 will delay: later" delayed late

echo "$passed passed, $failed failed"
((failed == 0))
