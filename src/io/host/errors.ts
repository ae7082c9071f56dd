// The errors of src/io/host. Each has a stable code for programs, a message and, where the operator can act, a fix.
// src/app reports them as faults in the health registry, and meshctl prints them; tests compare the codes.
import { CodedError, type CodedErrorDetails } from '../../core/model/coded-error.ts'
import { packageOf } from './tools/tools.ts'

/** The codes, each with the situation in which it is thrown. */
type HostErrorCode =
  // The caller's signal ended the call.
  | 'ABORTED'
  // An operation on the host failed with an error that is not a HostError.
  | 'APPLY_FAILED'
  // The name of the tunnel device belongs to another interface, or to a wireguard-go of another network namespace.
  | 'DEVICE_TAKEN'
  // The kernel has no IPv6, or IPv6 is switched off, and an IPv6 route or setting was wanted.
  | 'IPV6_OFF'
  // The private key that was given does not belong to the wanted public key.
  | 'KEY_MISMATCH'
  // The setting is `auto`, and this kernel can run no kind of load balancer.
  | 'NO_LOAD_BALANCER'
  // The kernel has no nftables, and the addresses of this cluster must be translated.
  | 'NO_TRANSLATION'
  // The kernel has no WireGuard, and wireguard-go finds no /dev/net/tun.
  | 'NO_TUN'
  | 'NOT_LINUX'
  // The process lacks a capability (NET_ADMIN), or a tool was refused for lack of rights.
  | 'NOT_ROOT'
  // A tool printed more than 128 MiB.
  | 'OUTPUT_TOO_LARGE'
  // Another process has the UDP port of WireGuard.
  | 'PORT_IN_USE'
  // A route of another program has the same destination in the same table.
  | 'ROUTE_TAKEN'
  // Another agent holds the lock of this network namespace.
  | 'SECOND_INSTANCE'
  // host.json in the state folder exists and cannot be read or parsed.
  | 'STATE_UNREADABLE'
  // A file below /proc/sys is missing, or cannot be read or written.
  | 'SYSCTL_FAILED'
  // A tool could not be started, ended with a failure, or printed text that cannot be parsed.
  | 'TOOL_FAILED'
  | 'TOOL_MISSING'
  // A tool did not end within its deadline, or one that was killed is still there.
  | 'TOOL_TIMEOUT'

/** The arguments of a HostError; code, message, fix and cause are those of every CodedError. */
interface HostErrorDetails extends CodedErrorDetails<HostErrorCode> {
  /** Name of the program that failed; undefined where none was involved. */
  readonly tool?: string
  /** Standard error of the tool, shortened. Its stdin and stdout are never put here, because they may hold keys. */
  readonly stderr?: string
}

/** The error of every function of src/io/host when the cause is the host and not a fault of this program. */
export class HostError extends CodedError<HostErrorCode> {
  override readonly name = 'HostError'
  readonly tool: string | undefined
  /** Standard error of the tool; empty where there is none. Code of this folder searches it for known messages. */
  readonly stderr: string

  constructor(details: HostErrorDetails) {
    super(details)
    this.tool = details.tool
    this.stderr = details.stderr ?? ''
  }
}

/**
 * Returns what `parse` makes of the output of a tool that has ended with success. Errors: TOOL_FAILED where `parse`
 * throws, because the output has another form than this program knows.
 */
export function parseOutput<T>(tool: string, parse: () => T): T {
  try {
    return parse()
  } catch (cause) {
    throw new HostError({
      code: 'TOOL_FAILED',
      tool,
      message: `${tool} ended with success, but its output has an unknown form`,
      fix: `check \`${tool} ${tool === 'ip' ? '-V' : '--version'}\` on this host: ${tool} must be the program of the package ${packageOf(tool)}, in a current version`,
      cause
    })
  }
}
