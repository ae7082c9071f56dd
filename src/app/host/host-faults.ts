// Turns what failed on this host into faults for the registry of health: one for each cluster and kind of operation,
// one for each part of the host that cannot be read or changed, and one for each tool that hangs. The operator thus
// reads a few faults when thousands of operations fail for one reason.
import type { HostOp, HostPart } from '../../core/host/host-state.ts'
import type { ClusterName } from '../../core/model/values.ts'
import { hangs, type FailedPart, type FailedStep } from '../../core/host/retries.ts'
import { explain, READ_LOG } from '../observe/errors.ts'
import type { FaultText, Health } from '../observe/health.ts'
import type { HostFailures } from './pass.ts'

type Listed = FaultText & { readonly subject: string }

/** Code of the faults of operations that failed. */
export const STEP_FAILED = 'HOST_STEP_FAILED'
/**
 * Subject of STEP_FAILED for the tunnel device. session/tell-paths.ts looks it up: without a device, no firewall is
 * to blame.
 */
export const TUNNEL_DEVICE = 'WireGuard device'
const TRIES_AGAIN = `${READ_LOG}; the agent tries again at least every 15 s`
const PART_FAILED = 'HOST_PART_FAILED'
const TOOL_HANGS = 'HOST_TOOL_HANGS'

/**
 * Replaces the three lists of faults by what failed in the latest pass. `clusterOf` returns the cluster that an
 * operation is for; undefined: it is for all clusters.
 */
export function reportHostFaults(
  health: Pick<Health, 'replace'>,
  { steps, parts }: HostFailures,
  clusterOf: (op: HostOp) => ClusterName | undefined
): void {
  const hanging = parts.filter(({ error }) => hangs(error))
  health.replace(STEP_FAILED, stepFaults(steps, clusterOf))
  health.replace(TOOL_HANGS, toolFaults(hanging))
  health.replace(PART_FAILED, parts.filter((part) => !hanging.includes(part)).map(partFault))
}

/**
 * Groups the failed operations by cluster and kind. The message names the first operation of a group and counts the
 * others. A tunnel device or a filter that cannot be set is critical: no traffic passes without it.
 */
function stepFaults(
  steps: readonly FailedStep[],
  clusterOf: (op: HostOp) => ClusterName | undefined
): readonly Listed[] {
  const tunnel = steps.find(({ op }) => op.kind === 'setTunnel')?.op
  const device = tunnel?.kind === 'setTunnel' ? tunnel.tunnel.device : undefined
  const groups = Map.groupBy(steps, ({ op }) => subjectOf(op, clusterOf(op)))
  return [...groups].flatMap(([subject, members]): Listed[] => {
    const [first] = members
    if (first === undefined) return []
    const { message, fix } = explain(first.error)
    const others = members.length === 1 ? '' : ` (and ${members.length - 1} more of this kind)`
    return [
      {
        subject,
        severity: first.op.kind === 'setTunnel' || first.op.kind === 'setFilter' ? 'critical' : 'error',
        message: `${subject}: ${stepName(first.op)} failed${others}: ${message}`,
        fix: needsDevice(first.op, device)
          ? `first correct the fault of the ${TUNNEL_DEVICE}, which this step needs`
          : (fix ?? TRIES_AGAIN)
      }
    ]
  })
}

/**
 * Returns whether an operation cannot succeed while the tunnel device `missing` is not set up. Then the fault refers
 * to the device, since the advice for its own error would mislead.
 */
function needsDevice(op: HostOp, missing: string | undefined): boolean {
  if (missing === undefined) return false
  if (op.kind === 'setSysctl') return op.sysctl.name.split(/[./]/).includes(missing)
  return op.kind === 'setPeer' || op.kind === 'addRoute' || op.kind === 'addVip'
}

/** "cluster shop, routes", or "routes" for what all clusters share. */
function subjectOf(op: HostOp, cluster: ClusterName | undefined): string {
  return cluster === undefined ? NOUNS[op.kind] : `cluster ${cluster}, ${NOUNS[op.kind]}`
}

/** The objects that operations change, in the words of faults. */
const NOUNS: { readonly [Kind in HostOp['kind']]: string } = {
  setTunnel: TUNNEL_DEVICE,
  removeTunnel: TUNNEL_DEVICE,
  setPeer: 'WireGuard peers',
  removePeer: 'WireGuard peers',
  addRoute: 'routes',
  removeRoute: 'routes',
  addVip: 'service prefixes',
  removeVip: 'service prefixes',
  setVirtualServer: 'services',
  removeVirtualServer: 'services',
  setFilter: 'packet filter',
  removeFilter: 'packet filter',
  setSysctl: 'kernel settings'
}

/** Returns an operation with its object, in the words of faults: "the route to 10.1.0.0/16", "removing the device". */
function stepName(op: HostOp): string {
  switch (op.kind) {
    case 'setTunnel':
      return `setting up ${op.tunnel.device}`
    case 'removeTunnel':
      return 'removing the device'
    case 'setPeer':
      return `setting the peer ${op.peer.publicKey}`
    case 'removePeer':
      return `removing the peer ${op.publicKey}`
    case 'addRoute':
      return `the route to ${op.route.destination}`
    case 'removeRoute':
      return `removing the route to ${op.route.destination}`
    case 'addVip':
      return `making ${op.vip.destination} local`
    case 'removeVip':
      return `removing ${op.vip.destination}`
    case 'setVirtualServer':
    case 'removeVirtualServer': {
      const { vip, port, protocol } = op.virtualServer
      return `${op.kind === 'setVirtualServer' ? 'setting' : 'removing'} ${vip} ${protocol} port ${port}`
    }
    case 'setFilter':
      return 'setting the filter'
    case 'removeFilter':
      return 'removing the filter'
    case 'setSysctl':
      return `setting ${op.sysctl.name} to ${op.sysctl.value}`
    default:
      return op satisfies never
  }
}

/** The parts of the host, in the words of faults. */
const PART_NAMES: { readonly [Part in HostPart]: string } = {
  tunnel: 'WireGuard device and peers',
  routes: 'routes and service prefixes',
  virtualServers: 'virtual servers',
  filter: 'packet filter',
  sysctls: 'kernel settings'
}

function partFault({ part, error }: FailedPart): Listed {
  const { message, fix } = explain(error)
  return {
    subject: PART_NAMES[part],
    severity: 'error',
    message: `${PART_NAMES[part]}: cannot be read or changed on this host: ${message}`,
    fix: fix ?? TRIES_AGAIN
  }
}

/** One fault for each tool that did not end in time, with the parts of the host that wait for it. */
function toolFaults(parts: readonly FailedPart[]): readonly Listed[] {
  const groups = Map.groupBy(parts, ({ error }) => toolOf(error))
  return [...groups].map(([tool, members]) => ({
    subject: tool,
    severity: 'error',
    message: `${explain(members[0]?.error).message}: until it answers, the agent changes nothing in ${members.map(({ part }) => PART_NAMES[part]).join(' and ')}`,
    fix:
      explain(members[0]?.error).fix ??
      `run \`ps -C ${tool} -o pid,stat,wchan:32,args\` to see what it waits for`
  }))
}

/** The name of the tool in a HostError TOOL_TIMEOUT. */
function toolOf(error: unknown): string {
  return error instanceof Error && 'tool' in error && typeof error.tool === 'string' ? error.tool : 'a tool'
}
