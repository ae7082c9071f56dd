// The host's tools: the package each comes with, how long a call may take, and what to ask it to see whether it answers.
// A deadline is a multiple of the longest call seen on an idle 2-core machine, so that a busy one does not reach it, and is still seconds: a
// tool that hangs must be named, and other parts of the host must go on. Where a tool answers the question and yet is too slow for a call, its
// deadlines grow (run.ts).

export interface Tool {
  /** Of Debian and Ubuntu. */
  readonly package: string
  /** For a call that is given nothing on stdin. */
  readonly deadlineMs: number
  /** More for each KiB on stdin. */
  readonly deadlineMsPerKib: number
  /** Arguments of a harmless question that takes milliseconds. It is asked before the next call after one that hung. */
  readonly question: readonly string[]
}

// Reading 20,000 routes takes 0.1 s, setting them (1.6 MB) 0.3 s.
const IP: Tool = {
  package: 'iproute2',
  deadlineMs: 5_000,
  deadlineMsPerKib: 5,
  question: ['link', 'show', 'dev', 'lo']
}
// One change takes 20 ms, and 2 s beside a foreign set of 200,000 elements; 10,000 services of 10 backends (8 MB) take 3 s. The question names
// a family that has no tables as a rule.
const NFT: Tool = {
  package: 'nftables',
  deadlineMs: 5_000,
  deadlineMsPerKib: 5,
  question: ['list', 'chains', 'arp']
}
// 1,000 peers: 0.15 s to set (200 KB), 0.03 s to read.
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
// Opens a socket for each line (50 bytes): 1 ms a line.
const IPVSADM: Tool = {
  package: 'ipvsadm',
  deadlineMs: 10_000,
  deadlineMsPerKib: 200,
  question: ['--version']
}
// Loading a module reads a file and may initialise hardware.
const MODPROBE: Tool = { package: 'kmod', deadlineMs: 10_000, deadlineMsPerKib: 0, question: ['--version'] }
// It goes to the background once its device is there: 0.1 s.
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

/** `cat` and `tee` of files in /proc, and programs that only tests run. */
const OTHER: Omit<Tool, 'package' | 'question'> = { deadlineMs: 10_000, deadlineMsPerKib: 0 }

export function packageOf(tool: string): string {
  return TOOLS.get(tool)?.package ?? tool
}

export function deadlineOf(tool: string, stdin: string): number {
  const { deadlineMs, deadlineMsPerKib } = TOOLS.get(tool) ?? OTHER
  return Math.ceil(deadlineMs + (deadlineMsPerKib * stdin.length) / 1024)
}

/** undefined: the call itself is the question. */
export function questionOf(tool: string): readonly string[] | undefined {
  return TOOLS.get(tool)?.question
}
