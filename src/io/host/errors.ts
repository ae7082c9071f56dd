// What can be wrong with a host, with a stable code for programs and a fix for people.
import { CodedError, type CodedErrorDetails } from '../../core/model/coded-error.ts'

export type HostErrorCode =
  | 'ABORTED'
  | 'APPLY_FAILED'
  | 'DEVICE_TAKEN'
  | 'IPV6_OFF'
  | 'KEY_MISMATCH'
  | 'NO_LOAD_BALANCER'
  | 'NO_TUN'
  | 'NOT_LINUX'
  | 'NOT_ROOT'
  | 'OUTPUT_TOO_LARGE'
  | 'PORT_IN_USE'
  | 'ROUTE_TAKEN'
  | 'SECOND_INSTANCE'
  | 'STATE_UNREADABLE'
  | 'SYSCTL_FAILED'
  | 'TOOL_FAILED'
  | 'TOOL_MISSING'
  | 'TOOL_TIMEOUT'

export interface HostErrorDetails extends CodedErrorDetails<HostErrorCode> {
  readonly tool?: string
  /** What the tool said, shortened. Never its stdin or stdout: those may hold keys. */
  readonly stderr?: string
}

export class HostError extends CodedError<HostErrorCode> {
  override readonly name = 'HostError'
  readonly tool: string | undefined
  readonly stderr: string

  constructor(details: HostErrorDetails) {
    super(details)
    this.tool = details.tool
    this.stderr = details.stderr ?? ''
  }
}

/** Of a tool that ended well and printed something else than what was asked for. */
export function unreadable(tool: string, cause: unknown): HostError {
  return new HostError({
    code: 'TOOL_FAILED',
    tool,
    message: `${tool} printed what cannot be read`,
    fix: `run \`${tool} -V\` on this host: it must be the real ${tool}, and its version one that prints JSON`,
    cause
  })
}
