import type { CompatCase } from "../compat-case.ts";

export const imageCases: readonly CompatCase[] = [
  {
    name: "pull-unpacks-an-image",
    given: ["registry"],
    needs: ["overlayfs"],
    lines: [
      "ctr i pull --plain-http $registry/busybox:1",
      "ctr i ls",
      "ctr content ls # in any order",
      "ctr snapshots ls # in any order",
      "ctr run --rm $registry/busybox:1 c1 cat /etc/motd",
    ],
  },
  {
    name: "pull-again-fetches-nothing-new",
    given: ["registry"],
    lines: [
      "ctr i pull --plain-http $registry/busybox:1 >/dev/null",
      "ctr i pull --plain-http $registry/busybox:1",
      "ctr i ls -q",
    ],
  },
  {
    name: "pull-takes-the-platform-of-the-machine",
    given: ["registry"],
    lines: [
      "ctr i pull --plain-http $registry/multi:1",
      "ctr i ls",
      "ctr content ls -q # in any order",
      "ctr i check",
    ],
  },
  {
    name: "pull-all-platforms",
    given: ["registry"],
    lines: [
      "ctr i pull --plain-http --all-platforms $registry/multi:1",
      "ctr content ls -q # in any order",
      "ctr snapshots ls # in any order",
    ],
  },
  {
    name: "pull-for-another-platform",
    given: ["registry"],
    lines: [
      "ctr i pull --plain-http --platform linux/s390x $registry/multi:1",
      "ctr snapshots ls # in any order",
    ],
  },
  {
    name: "pull-into-the-native-snapshotter",
    given: ["registry"],
    lines: [
      "ctr i pull --plain-http --snapshotter native $registry/busybox:1",
      "ctr snapshots --snapshotter native ls # in any order",
      "ctr snapshots ls",
      "ctr run --rm --snapshotter native $registry/busybox:1 c1 cat /etc/motd",
    ],
  },
  {
    name: "pull-refuses-what-is-not-there",
    given: ["registry"],
    lines: [
      "ctr i pull --plain-http $registry/busybox:none",
      "ctr i pull --plain-http $registry/none:1",
      "ctr i pull redis",
      "ctr i ls",
    ],
  },
  {
    name: "push-sends-an-image",
    given: ["registry", "busybox"],
    lines: [
      "ctr i push --plain-http $registry/new:1 $busybox >/dev/null",
      "ctr i rm --sync $busybox",
      "ctr i pull --plain-http $registry/new:1",
      "ctr run --rm $registry/new:1 c1 cat /etc/motd",
      "ctr i push --plain-http $registry/new:2 example.com/none:1",
    ],
  },
  {
    name: "import-unpacks-an-archive",
    given: ["archive"],
    lines: [
      "ctr i import busybox.tar",
      "ctr i ls",
      "ctr i check",
      // The index of the archive is nobody's, and goes.
      "await 'ctr content ls -q | wc -l' '^4$'",
      "ctr content ls # in any order",
      "ctr snapshots ls # in any order",
      "ctr i import busybox.tar",
    ],
  },
  {
    name: "import-without-unpacking",
    given: ["archive"],
    lines: [
      "ctr i import --no-unpack busybox.tar",
      "ctr i ls -q",
      "ctr i check",
      "ctr snapshots ls",
      "ctr run --rm $busybox c1 cat /etc/motd",
      "ctr snapshots ls # in any order",
    ],
  },
  {
    name: "import-refuses-what-is-no-archive",
    lines: ["echo hello >text.tar", "ctr i import text.tar", "ctr i import none.tar", "ctr i ls"],
  },
  {
    name: "export-writes-an-archive-that-imports",
    given: ["busybox"],
    lines: [
      "ctr i export out.tar $busybox",
      "tar -tf out.tar # in any order",
      "ctr -n other i import out.tar",
      "ctr -n other i ls",
      "ctr -n other i rm $busybox",
    ],
  },
  {
    name: "tag-names-an-image-again",
    given: ["busybox"],
    lines: [
      "ctr i tag $busybox example.com/a:1",
      "ctr i ls",
      "ctr i tag $busybox example.com/a:1",
      "ctr i tag --force $busybox example.com/a:1",
      "ctr i tag example.com/none:1 example.com/b:1",
      "ctr i ls -q",
    ],
  },
  {
    name: "label-an-image",
    given: ["busybox"],
    lines: [
      "ctr i label $busybox a=1 b=2",
      "ctr i ls",
      "ctr i ls labels.a==1 -q",
      "ctr i ls name~=busybox",
      "ctr i ls name==none",
      "ctr i label $busybox a=",
      "ctr i ls",
    ],
  },
  {
    name: "rm-frees-content-and-snapshots",
    given: ["busybox"],
    lines: [
      "ctr i tag $busybox example.com/a:1",
      "ctr i rm --sync $busybox",
      "ctr content ls -q | wc -l",
      "ctr i rm --sync example.com/a:1",
      "ctr content ls -q | wc -l",
      "ctr snapshots ls",
      "ctr i rm example.com/a:1",
      "ctr i ls",
    ],
  },
  {
    name: "rm-keeps-what-a-container-uses",
    given: ["busybox"],
    lines: [
      "ctr c create $busybox c1 true",
      "ctr i rm --sync $busybox",
      "ctr content ls",
      "ctr snapshots ls # in any order",
      "ctr t start c1",
      "ctr c rm c1",
      "ctr i ls",
    ],
  },
  {
    name: "mount-shows-the-root-of-an-image",
    given: ["busybox"],
    needs: ["overlayfs"],
    lines: [
      "mkdir mnt",
      "ctr i mount $busybox mnt",
      "ls mnt",
      "cat mnt/etc/motd",
      "touch mnt/new",
      "ctr snapshots ls # in any order",
      "ctr i unmount --rm mnt",
      "ls mnt",
      "ctr snapshots ls # in any order",
    ],
  },
];
