import type { CompatCase } from "../compat-case.ts";

/** Ends a container however it stands, and forgets it. */
const remove = (id: string): string[] => [`ctr t rm -f ${id}`, `ctr c rm ${id}`];

/** Waits until the terminal has the size that `terminal` gives it: clients say so after the start. */
const sized = "until stty size 2>/dev/null | grep -x 40.100; do sleep 0.1; done";

// A logger of `binary://`: its environment and arguments, then both outputs.
const loggerProgram = [
  "printf '%s\\n' '#!/bin/sh' 'exec 2>&1 >>$(/usr/bin/dirname $0)/logged'",
  '\'/usr/bin/tr "\\\\0" "\\\\n" </proc/$$/environ | /usr/bin/sort; echo "$@"; exec 5>&-\'',
  "'/bin/cat <&4 & /bin/cat <&3; wait' >logger; chmod 755 logger",
].join(" ");

export const taskCases: readonly CompatCase[] = [
  {
    name: "run-prints-and-returns-what-the-process-does",
    given: ["busybox"],
    lines: [
      "ctr run --rm $busybox c1 sh -c 'echo out; echo err >&2; exit 7'",
      "with_input in 'ctr run --rm '$busybox' c1 cat'",
      "ctr c ls",
      "ctr t ls",
      "ctr snapshots ls # in any order",
    ],
  },
  {
    name: "run-without-rm-keeps-the-container",
    given: ["busybox"],
    lines: [
      "ctr run $busybox c1 sh -c 'echo kept >/kept'",
      "ctr c ls",
      "ctr t ls",
      "ctr t start c1",
      "ctr c rm c1",
      "ctr snapshots ls # in any order",
    ],
  },
  {
    name: "run-detached-goes-on",
    given: ["busybox"],
    lines: [
      "ctr run -d $busybox c1 sleep 1000",
      "ctr t ls",
      "ctr t ls -q",
      "ctr t ps c1 | tail -n +2 | wc -l",
      "ctr run -d --rm $busybox c2 true",
      "ctr t kill c1",
      "ctr t kill -s KILL c1",
      "await 'ctr t ls' STOPPED",
      "ctr t ls",
      "ctr t rm c1",
      "ctr t ls",
      "ctr c rm c1",
    ],
  },
  {
    name: "a-large-output-arrives-whole",
    given: ["busybox"],
    lines: [
      "ctr run --rm $busybox c1 sh -c 'i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done' | sha256sum",
      "head -c 3000000 /dev/zero | ctr run --rm $busybox c1 wc -c",
    ],
  },
  {
    name: "task-start-runs-what-was-created",
    given: ["busybox"],
    lines: [
      "ctr c create -- $busybox c1 sh -c 'echo started; exit 4'",
      "ctr t start c1",
      "ctr t ls",
      "ctr t start c1",
      "ctr c rm c1",
      "ctr c create $busybox c2 sleep 1000",
      "ctr t start -d c2",
      "ctr t ls",
      "ctr t start -d c2",
      ...remove("c2"),
    ],
  },
  {
    name: "exec-runs-beside-the-container",
    given: ["busybox"],
    lines: [
      "ctr run -d $busybox c1 sleep 1000",
      "ctr t exec --exec-id e1 c1 sh -c 'echo out; echo err >&2; exit 9'",
      "ctr t exec --exec-id 0 --cwd /etc c1 sh -c 'pwd; cat motd'",
      "with_input in 'ctr t exec --exec-id e2 c1 cat'",
      "ctr t exec -d --exec-id e5 c1 sh -c 'echo done >/tmp/e5; sleep 1000'",
      "await 'ctr t exec --exec-id e6 c1 cat /tmp/e5' done",
      "ctr t exec --exec-id e5 c1 true",
      "ctr t exec c1 true",
      "ctr t exec --exec-id 'a b' c1 true",
      "ctr t kill -s KILL --exec-id e5 c1",
      // Last: to look a user up, ctr mounts the root a second time, after which overlayfs copies nothing up.
      "ctr t exec --exec-id e3 --user guest c1 id",
      "ctr t exec --exec-id e4 --user 1000:100 c1 id",
      "ctr t ls",
      ...remove("c1"),
    ],
  },
  {
    name: "exec-with-a-background-child-lets-go",
    given: ["busybox"],
    lines: [
      "ctr run -d $busybox c1 sleep 1000",
      "ctr t exec --exec-id e1 c1 sh -c 'sleep 900 & echo started'",
      "ctr t exec --exec-id e2 c1 sh -c 'sleep 900 >/dev/null 2>&1 </dev/null & echo started'",
      "ctr t exec --exec-id e3 c1 ps | grep -c 'sleep 900'",
      ...remove("c1"),
    ],
  },
  {
    name: "a-terminal-is-one",
    given: ["busybox"],
    lines: [
      `terminal 'ctr run --rm -t '$busybox' c1 sh -c "tty; ${sized}; echo err >&2; exit 3"'`,
      "ctr run -d $busybox c1 sleep 1000",
      `terminal 'ctr t exec -t --exec-id e1 c1 sh -c "tty; ${sized}; exit 5"'`,
      "ctr t exec --exec-id e2 c1 tty",
      ...remove("c1"),
    ],
  },
  {
    name: "kill-sends-the-signal-that-was-named",
    given: ["busybox"],
    lines: [
      'ctr run -d $busybox c1 sh -c \'trap "echo >/got-hup" HUP; trap "exit 6" TERM; while :; do sleep 0.1; done\'',
      "await 'ctr t ls' RUNNING",
      "ctr t kill -s HUP c1",
      "await 'ctr t exec --exec-id e1 c1 ls /' got-hup",
      "ctr t kill c1",
      "await 'ctr t ls' STOPPED",
      "ctr t kill c1",
      "ctr t rm c1",
      "ctr t kill -s NONE c1",
      "ctr c rm c1",
    ],
  },
  {
    name: "t-rm-refuses-a-task-that-runs",
    given: ["busybox"],
    lines: [
      "ctr run -d $busybox c1 sleep 1000",
      "ctr t rm c1",
      "ctr t ls",
      "ctr t rm -f c1",
      "ctr t ls",
      "ctr c rm c1",
    ],
  },
  {
    name: "pause-and-resume",
    given: ["busybox"],
    lines: [
      "ctr run -d $busybox c1 sleep 1000",
      "ctr t pause c1",
      "ctr t ls",
      "ctr t exec --exec-id e1 c1 true",
      "ctr t resume c1",
      "ctr t ls",
      ...remove("c1"),
    ],
  },
  {
    name: "metrics-count-what-a-container-uses",
    given: ["busybox"],
    lines: [
      "ctr run -d --memory-limit 67108864 $busybox c1 sleep 1000",
      // The limit has another name in each version of cgroups.
      "ctr t metrics c1 | awk 'NR == 1 || /^METRIC/ { print } /limit_in_bytes|usage_limit/ { print $2 }'",
      "ctr t metrics none",
      ...remove("c1"),
    ],
  },
  {
    name: "a-client-attaches-to-what-runs",
    given: ["busybox"],
    lines: [
      "ctr run -d $busybox c1 sh -c 'while [ ! -e /go ]; do sleep 0.1; done; echo went; exit 3'",
      "ctr t attach c1 & attach=$!; await 'ctr t ls' RUNNING; ctr t exec --exec-id e1 c1 touch /go; wait $attach",
      "ctr t ls",
      "ctr c rm c1",
    ],
  },
  {
    name: "run-gives-the-process-what-was-asked",
    given: ["busybox"],
    lines: [
      "ctr run --rm --env PASSWORD=123456 $busybox c1 sh -c 'echo $PASSWORD $FROM_IMAGE; pwd; id'",
      "ctr run --rm --cwd /tmp $busybox c1 pwd",
      "ctr run --rm --read-only $busybox c1 touch /x",
      "mkdir shared; echo shared >shared/file",
      "ctr run --rm --mount type=bind,src=$PWD/shared,dst=/mnt,options=rbind:ro $busybox c1 cat /mnt/file",
      "ctr run --rm --mount type=bind,src=$PWD/none,dst=/mnt,options=rbind:ro $busybox c1 true 2>&1 | wc -l",
      "ctr run --rm --net-host $busybox c1 ls /proc/self/ns/net",
      "ctr run --rm --null-io $busybox c1 echo lost",
      "ctr run --rm --log-uri file://$PWD/log $busybox c1 echo logged",
      "cat log",
      "ctr run --rm --memory-limit 67108864 $busybox c1 true",
    ],
  },
  {
    name: "limits-and-umask-are-those-of-the-specification",
    given: ["busybox"],
    lines: [
      "ctr run --rm $busybox c1 sh -c 'ulimit -Sn; ulimit -Hn; umask'",
      "ctr run -d $busybox c1 sleep 1000",
      "ctr t exec --exec-id e1 c1 sh -c 'ulimit -Sn; umask'",
      ...remove("c1"),
    ],
  },
  {
    name: "a-limit-that-the-specification-leaves-out-is-the-daemons",
    given: ["rootfs"],
    lines: ['ctr run --rm --config spec.json c1 | sed "s/^$(ulimit -Hn)$/the hard limit/"'],
    differs:
      "Go's runtime raises its own soft limit, and before Go 1.20 its children inherited that. Containers of ours " +
      "get the soft limit the daemon was started with.",
  },
  {
    name: "a-logging-program-gets-what-a-container-writes",
    given: ["busybox"],
    lines: [
      loggerProgram,
      "ctr run -d --log-uri binary://$PWD/logger?key=value $busybox c1 sh -c 'echo out; sleep 0.5; echo err >&2'",
      "await 'cat logged' '^err'; cat logged",
      "await 'ctr t ls' STOPPED; ctr t rm c1; ctr c rm c1",
    ],
  },
  {
    name: "output-is-appended-to-a-file",
    given: ["busybox"],
    lines: [
      "ctr run -d --log-uri file://$PWD/a/b/log $busybox c1 sh -c 'echo out; echo err >&2'",
      "await 'ctr t ls' STOPPED; ctr t rm c1; ctr c rm c1",
      "sort a/b/log; stat -c '%a %n' a a/b a/b/log",
      "ctr run -d --log-uri file://$PWD/a/b/log $busybox c1 echo more",
      "await 'ctr t ls' STOPPED; ctr t rm c1; ctr c rm c1",
      "sort a/b/log",
    ],
  },
  {
    name: "logs-that-cannot-be-written",
    given: ["busybox"],
    differs: "a program that cannot be started is one sentence, as in containerd 2",
    lines: [
      "ctr run -d --log-uri weird://x $busybox c1 true",
      "ctr run -d --log-uri binary:///nonexistent $busybox c2 true",
      "ctr run -d --log-uri binary:///etc/passwd $busybox c3 true",
      "ctr run -d --log-uri file:///proc/none/log $busybox c4 true",
      "ctr t ls -q",
      "ctr c rm c1 c2 c3 c4",
    ],
  },
  {
    name: "a-command-that-is-not-there",
    given: ["busybox"],
    lines: [
      // The rest of the message is the runtime's, and which that is may differ.
      "ctr run --rm $busybox c1 none 2>&1 | cut -d: -f1-3",
      "ctr run --rm --runc-binary runc $busybox c1 none",
      "ctr run --rm --runc-binary runc $busybox c1 /etc/motd",
      "ctr run -d --runc-binary runc $busybox c1 sleep 1000",
      "ctr t exec --exec-id e1 c1 none",
      "ctr t exec --exec-id e1 c1 true",
      ...remove("c1"),
      "ctr t ls",
      "ctr c ls",
    ],
  },
  {
    name: "an-unknown-runtime",
    given: ["busybox"],
    lines: [
      "ctr run --rm --runtime io.containerd.none.v1 $busybox c1 true",
      "ctr run --rm --runc-binary /none $busybox c1 true",
      "ctr c ls",
      "ctr t ls",
    ],
  },
  {
    name: "a-runtime-whose-name-is-none",
    given: ["busybox"],
    lines: ["ctr run --rm --runtime none $busybox c1 true"],
    differs: "The example in the sentence is of a newer runtime, as in containerd 2.",
  },
  {
    name: "events-tell-the-life-of-a-container",
    given: ["busybox"],
    lines: ["events_start", "ctr run --rm $busybox c1 true", "events_stop /containers/delete"],
  },
  {
    name: "events-tell-of-an-exec",
    given: ["busybox"],
    lines: [
      "ctr run -d $busybox c1 sleep 1000",
      "events_start",
      "ctr t exec --exec-id e1 c1 sh -c 'exit 5'",
      "ctr t pause c1",
      "ctr t resume c1",
      ...remove("c1"),
      "events_stop /containers/delete",
    ],
  },
  {
    name: "events-tell-of-images-and-snapshots",
    given: ["archive"],
    lines: [
      "events_start",
      "ctr i import busybox.tar",
      "ctr i tag $busybox example.com/a:1",
      "ctr i rm $busybox",
      "events_stop /images/delete # in any order",
    ],
    differs:
      "As containerd 2 does, content that is stored is an event too, which this ctr has no words for.",
  },
];
