// The table of the host's tools: the package of each, the deadline of a call, and a harmless call that shows whether
// the tool answers. run.ts reads it. A tool without a row has 10 s for each call. A deadline is a multiple of the
// longest call that was seen on an idle machine with 2 cores, so that a busy one does not reach it. It is still a
// matter of seconds, because a tool that hangs must be named, and the other parts of the host must go on. If a tool
// answers the harmless call and is yet too slow for a real one, its deadlines grow (run.ts).

/** One row of the table. */
interface Tool {
  /** Name of the package in Debian and Ubuntu. */
  readonly package: string
  /** Milliseconds for a call without text on stdin. */
  readonly deadlineMs: number
  /** Milliseconds that each KiB on stdin adds. */
  readonly deadlineMsPerKib: number
  /** Arguments of a harmless call that takes milliseconds. It is made before the next call after one that hung. */
  readonly question: readonly string[]
}

// Reading 20,000 routes takes 0.1 s, setting them (1.6 MB) 0.3 s.
const IP: Tool = {
  package: 'iproute2',
  deadlineMs: 5_000,
  deadlineMsPerKib: 5,
  question: ['link', 'show', 'dev', 'lo']
}
// One change takes 20 ms, and 2 s on a host with a set of 200,000 elements. 10,000 services of 10 backends (8 MB) take
// 3 s. The harmless call names the family arp, which has no tables as a rule.
const NFT: Tool = {
  package: 'nftables',
  deadlineMs: 5_000,
  deadlineMsPerKib: 5,
  question: ['list', 'chains', 'arp']
}
// Setting 1,000 peers (200 KB) takes 0.15 s, reading them 0.03 s.
const WG: Tool = {
  package: 'wireguard-tools',
  deadlineMs: 5_000,
  deadlineMsPerKib: 20,
  question: ['show', 'interfaces']
}
// Listing 100,000 flows takes 0.3 s.
const CONNTRACK: Tool = {
  package: 'conntrack',
  deadlineMs: 5_000,
  deadlineMsPerKib: 0,
  question: ['--version']
}
// ipvsadm opens a socket for each line of 50 bytes, which takes 1 ms.
const IPVSADM: Tool = {
  package: 'ipvsadm',
  deadlineMs: 10_000,
  deadlineMsPerKib: 200,
  question: ['--version']
}
// modprobe reads a file for each module, and the module may initialise hardware.
const MODPROBE: Tool = { package: 'kmod', deadlineMs: 10_000, deadlineMsPerKib: 0, question: ['--version'] }
// wireguard-go goes to the background once its device exists, after 0.1 s.
const WIREGUARD_GO: Tool = {
  package: 'wireguard-go',
  deadlineMs: 10_000,
  deadlineMsPerKib: 0,
  question: ['--version']
}

const TOOLS: ReadonlyMap<string, Tool> = new Map([
  ['conntrack', CONNTRACK],
  ['ip', IP],
  ['ipvsadm', IPVSADM],
  ['modprobe', MODPROBE],
  ['nft', NFT],
  ['wg', WG],
  ['wireguard-go', WIREGUARD_GO]
])

/** The deadline of tools without a row: `cat` of files in /proc, and programs that only tests run. */
const OTHER: Omit<Tool, 'package' | 'question'> = { deadlineMs: 10_000, deadlineMsPerKib: 0 }

/** Returns the package of a tool, for error texts; the name of the tool where it has no row. */
export function packageOf(tool: string): string {
  return TOOLS.get(tool)?.package ?? tool
}

/** Returns the deadline of a call in milliseconds. The length of `stdin` is counted in characters. */
export function deadlineOf(tool: string, stdin: string): number {
  const { deadlineMs, deadlineMsPerKib } = TOOLS.get(tool) ?? OTHER
  return Math.ceil(deadlineMs + (deadlineMsPerKib * stdin.length) / 1024)
}

/** Returns the arguments of the harmless call; undefined for a tool without a row, which is called at once. */
export function questionOf(tool: string): readonly string[] | undefined {
  return TOOLS.get(tool)?.question
}
