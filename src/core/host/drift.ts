// Says in words how a host differs from what it should be: one difference for each operation of a plan, for `meshctl doctor`
// and `meshctl drift`. Pure, and without the vocabulary of a tool but in the command that shows who changes the host.
// Invariant (tested as a property): each operation is one difference, whose text names the object and, where both have it,
// each field that differs with what the host has and should have.
import type { HostOp, HostPart, HostState, Route, Vip } from './host-state.ts'
import { INCOMPLETE_MTU, UNUSABLE_MTU } from './host-ops.ts'
import { routeKey, virtualServerKey } from './normalize.ts'

/** One difference of a host from what it should be. */
export interface Difference {
  readonly op: HostOp
  /** A sentence without a full stop: "the route to 10.2.0.0/16 is missing". */
  readonly text: string
}

/** Returns the differences in the order of the operations. `have` is the host from which the operations were planned. */
export function differencesOf(ops: readonly HostOp[], have: HostState): readonly Difference[] {
  return ops.map((op) => ({ op, text: textOf(op, have) }))
}

/** How an operator finds the program that changes this part of the host. */
export function watcherOf(part: HostPart): string {
  switch (part) {
    case 'tunnel':
      return '`ip monitor link` and `wg show` show the changes of the device and its peers'
    case 'routes':
      return '`ip monitor route rule` shows each change'
    case 'filter':
    case 'virtualServers':
      return '`nft monitor` names the process of each change (for IPVS, `ipvsadm -Ln` shows the servers)'
    case 'sysctls':
      return '`grep -r . /etc/sysctl.conf /etc/sysctl.d` shows the settings of this host'
    default:
      return part satisfies never
  }
}

function textOf(op: HostOp, have: HostState): string {
  switch (op.kind) {
    case 'setSysctl': {
      const { name, value } = op.sysctl
      const now = have.sysctls.find((sysctl) => sysctl.name === name)?.value
      return `${name} is ${now ?? 'not set'}, and should be ${value}`
    }
    case 'setTunnel':
      return tunnelText(op.tunnel, have.tunnel)
    case 'removeTunnel':
      return 'the tunnel device is left over'
    case 'setPeer':
      return peerText(op.peer, have)
    case 'removePeer':
      return `the WireGuard peer ${op.publicKey} is none of this mesh`
    case 'setFilter':
      return filterText(op.filter, have.filter)
    case 'removeFilter':
      return 'the packet filter of the mesh is left over'
    case 'addRoute':
      return placeText(
        'the route to',
        op.route,
        have.routes.find((route) => routeKey(route) === routeKey(op.route))
      )
    case 'removeRoute':
      return `the route to ${op.route.destination} is left over`
    case 'addVip':
      return placeText(
        VIP_ROUTE,
        op.vip,
        have.vips.find((vip) => routeKey(vip) === routeKey(op.vip))
      )
    case 'removeVip':
      return `${VIP_ROUTE} ${op.vip.destination} is left over`
    case 'setVirtualServer':
      return op.before === undefined
        ? `the virtual server ${virtualServerKey(op.virtualServer)} is missing`
        : `the virtual server ${virtualServerKey(op.virtualServer)} differs from the service (real servers: ${op.before.realServers.length}, and should be ${op.virtualServer.realServers.length})`
    case 'removeVirtualServer':
      return `the virtual server ${virtualServerKey(op.virtualServer)} is left over`
    default:
      return op satisfies never
  }
}

const VIP_ROUTE = 'the local route of the service prefix'

function tunnelText(want: NonNullable<HostState['tunnel']>, have: HostState['tunnel']): string {
  if (have === undefined) return `the tunnel device ${want.device} is missing`
  if (have.mtu === UNUSABLE_MTU)
    return `the tunnel device ${want.device} is down, or lacks the mark of its packets`
  if (have.mtu === INCOMPLETE_MTU) return `the tunnel device ${want.device} lacks an address`
  return `the tunnel device ${want.device} differs: ${fieldsText(want, have)}`
}

function peerText(want: HostState['peers'][number], have: HostState): string {
  const now = have.peers.find(({ publicKey }) => publicKey === want.publicKey)
  const at = want.peerAddress === undefined ? '' : ` at ${want.peerAddress}`
  return now === undefined
    ? `the WireGuard peer ${want.publicKey}${at} is missing, so nothing goes to ${want.allowedIps.join(', ') || 'it'}`
    : `the WireGuard peer ${want.publicKey}${at} differs: ${fieldsText(want, now)}`
}

function filterText(want: NonNullable<HostState['filter']>, have: HostState['filter']): string {
  return have === undefined
    ? 'the packet filter of the mesh is missing'
    : `the packet filter of the mesh differs: ${fieldsText(want, have)}`
}

function placeText(what: string, want: Route | Vip, have: Route | Vip | undefined): string {
  return have === undefined
    ? `${what} ${want.destination} is missing`
    : `${what} ${want.destination} differs: ${fieldsText(want, have)}`
}

// A list of a filter may have a thousand prefixes.
const VALUE_CHARACTERS_MAX = 80

/** "mtu is 1300, and should be 1420", for each field that differs. The order of a list is no difference. */
function fieldsText<T extends object>(want: T, have: T): string {
  const names = [...new Set([...Object.keys(want), ...Object.keys(have)])] as (keyof T & string)[]
  const texts = names.flatMap((name) => {
    const [should, is] = [valueText(want[name]), valueText(have[name])]
    return should === is ? [] : [`${name} is ${cut(is)}, and should be ${cut(should)}`]
  })
  return texts.join('; ') || 'it goes with the tunnel device, which changes'
}

function valueText(value: unknown): string {
  if (Array.isArray(value)) return value.map(valueText).toSorted().join(' ') || 'empty'
  if (value === undefined) return 'empty'
  return typeof value === 'string' ? value : JSON.stringify(value)
}

function cut(text: string): string {
  return text.length > VALUE_CHARACTERS_MAX ? `${text.slice(0, VALUE_CHARACTERS_MAX)}…` : text
}
