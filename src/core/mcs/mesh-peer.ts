// The object MeshPeer (rhizome.io/v1alpha1) of another cluster: which status it should have, and when a write is due. The
// app's MeshPeers writes it; deploy/chart/rhizome/files/crds/meshpeers.yaml is its definition.
// Invariants
//   1. A condition depends on firm facts only, and its message has no number that grows. So a tunnel that stays up or down
//      causes no write, however its round trip and its counters change.
//   2. What changes all the time (path, round trip, number of services) is written with a firm change, or REFRESH_MS after
//      the last write. Two writes of one object are at least GAP_MS apart, also while a tunnel flaps.
import { APPLY_PATCH, fieldsAt, textAt, type KubeCall } from '../kube/kube-api.ts'
import { isFields, type Fields } from '../model/field-check.ts'
import type { Cidr, ClusterName } from '../model/values.ts'

/** Milliseconds after which path, round trip and number of services are written again. */
export const REFRESH_MS = 300_000
/** Milliseconds between two writes of one object. */
export const GAP_MS = 10_000
/** The path of all MeshPeers. */
export const MESH_PEERS_PATH = '/apis/rhizome.io/v1alpha1/meshpeers'

/** What this agent knows of another cluster. */
export interface PeerFacts {
  readonly cluster: ClusterName
  readonly podPrefixes: readonly Cidr[]
  readonly servicePrefixes: readonly Cidr[]
  readonly gateways: number
  /** Gateways with a tunnel that is up; undefined: this agent has no data plane. */
  readonly connected: number | undefined
  /** Whether a tunnel that is not up may still connect for the first time. */
  readonly isConnecting: boolean
  /** Whether the whole catalogue of the cluster is known. */
  readonly isComplete: boolean
  /** Whether a name or prefix of the cluster is not in force, because another cluster has it. */
  readonly hasConflict: boolean
  /** '' while it is not known. */
  readonly path: string
  readonly rttMs: number | undefined
  readonly services: number
}

interface Condition {
  readonly type: 'Ready' | 'Connected' | 'Synced'
  readonly status: 'True' | 'False' | 'Unknown'
  readonly reason: string
  readonly message: string
}

/** A MeshPeer as it was read. */
export interface HeldPeer {
  readonly name: string
  readonly conditions: readonly Fields[]
  /** The firm fields, as text to compare; '' without a status. */
  readonly firm: string
}

/** The conditions of a cluster, in the order in which they are shown. */
export function peerConditions(facts: PeerFacts): readonly Condition[] {
  const [connected, synced] = [connectedOf(facts), syncedOf(facts)]
  return [readyOf(facts, connected, synced), connected, synced]
}

function connectedOf({ cluster, gateways, connected, isConnecting }: PeerFacts): Condition {
  const type = 'Connected'
  if (connected === undefined)
    return condition(
      type,
      'Unknown',
      'NoDataPlane',
      'the agent that writes this status has no tunnels: see setting dataplane'
    )
  if (connected > 0) return condition(type, 'True', 'TunnelUp', `a tunnel to cluster ${cluster} is up`)
  if (gateways === 0)
    return condition(
      type,
      'False',
      'NoGateway',
      `cluster ${cluster} has announced no gateway: check that its agents run`
    )
  if (isConnecting)
    return condition(type, 'False', 'Connecting', `the first handshake with cluster ${cluster} is under way`)
  return condition(
    type,
    'False',
    'TunnelDown',
    `no tunnel to cluster ${cluster} answers: run \`meshctl peers\` and \`meshctl doctor\` in an agent`
  )
}

function syncedOf({ cluster, isComplete }: PeerFacts): Condition {
  return isComplete
    ? condition(
        'Synced',
        'True',
        'CatalogueComplete',
        `all services that cluster ${cluster} exports are known`
      )
    : condition(
        'Synced',
        'False',
        'CatalogueIncomplete',
        `cluster ${cluster} has not told all its services yet`
      )
}

function readyOf({ cluster, hasConflict }: PeerFacts, connected: Condition, synced: Condition): Condition {
  const failed = [connected, synced].find(({ status }) => status !== 'True')
  if (failed !== undefined) return { ...failed, type: 'Ready' }
  if (hasConflict)
    return condition(
      'Ready',
      'False',
      'Conflict',
      `another cluster has the name or a prefix of cluster ${cluster}: \`meshctl trust status\` names both`
    )
  return condition('Ready', 'True', 'Ready', `services of cluster ${cluster} can be reached`)
}

function condition(
  type: Condition['type'],
  status: Condition['status'],
  reason: string,
  message: string
): Condition {
  return { type, status, reason, message }
}

/** Reads a MeshPeer of the API server. It never throws. */
export function readPeer(object: Fields): HeldPeer {
  const status = fieldsAt(object, 'status')
  const conditions = Array.isArray(status['conditions']) ? status['conditions'].filter(isFields) : []
  return { name: textAt(object, 'metadata', 'name') ?? '', conditions, firm: firmOf(status, conditions) }
}

/** Whether the status has to be written. `sinceWriteMs`: since this agent wrote or first read the object. */
export function isWriteDue(facts: PeerFacts, held: HeldPeer | undefined, sinceWriteMs: number): boolean {
  if (held === undefined) return true
  if (sinceWriteMs < GAP_MS) return false
  return sinceWriteMs >= REFRESH_MS || firmText(facts) !== held.firm
}

/** The firm fields of the status that these facts give, as text to compare. */
export function firmText(facts: PeerFacts): string {
  return firmOf(firmStatus(facts), peerConditions(facts))
}

/** The call that makes the object. It has no content but its status. */
export function applyPeer({ cluster }: Pick<PeerFacts, 'cluster'>): KubeCall {
  return call(cluster, '', {})
}

/** The call that writes the status. `now`: RFC 3339; a condition whose status is the same keeps its time. */
export function applyPeerStatus(
  facts: PeerFacts,
  { held, now, node }: { readonly held: HeldPeer | undefined; readonly now: string; readonly node: string }
): KubeCall {
  const conditions = peerConditions(facts).map((want) => {
    const before = held?.conditions.find(({ type }) => type === want.type)
    const at = before?.['lastTransitionTime']
    const isSame = before?.['status'] === want.status && typeof at === 'string'
    return { ...want, lastTransitionTime: isSame ? at : now }
  })
  return call(facts.cluster, '/status', {
    status: {
      conditions,
      ...firmStatus(facts),
      ...(facts.path !== '' && { path: facts.path }),
      ...(facts.rttMs !== undefined && { rttMilliseconds: Math.round(facts.rttMs * 100) / 100 }),
      services: facts.services,
      observedBy: node,
      lastUpdateTime: now
    }
  })
}

/** The call that deletes the object of a cluster that is no member any more. */
export function deletePeer({ name }: Pick<HeldPeer, 'name'>): KubeCall {
  return { method: 'DELETE', path: `${MESH_PEERS_PATH}/${name}` }
}

function firmStatus({ gateways, connected = 0, podPrefixes, servicePrefixes }: PeerFacts): Fields {
  return { gateways, connectedGateways: connected, podCIDRs: podPrefixes, serviceCIDRs: servicePrefixes }
}

/** The firm fields of a status as text; '' without conditions. */
function firmOf(status: Fields, conditions: readonly Fields[] | readonly Condition[]): string {
  if (conditions.length === 0) return ''
  const all = conditions as readonly Fields[]
  const states = ['Ready', 'Connected', 'Synced'].map((type) => {
    const found = all.find((each) => each['type'] === type)
    return [found?.['status'], found?.['reason']]
  })
  const { gateways, connectedGateways, podCIDRs, serviceCIDRs } = status
  return JSON.stringify([states, gateways, connectedGateways, podCIDRs ?? [], serviceCIDRs ?? []])
}

/** Server-side apply. `force`: all fields are the agent's, so a change of another manager is set back. */
function call(name: string, part: '' | '/status', fields: Fields): KubeCall {
  return {
    method: 'PATCH',
    path: `${MESH_PEERS_PATH}/${name}${part}`,
    query: { fieldManager: 'rhizome', force: 'true' },
    contentType: APPLY_PATCH,
    body: { apiVersion: 'rhizome.io/v1alpha1', kind: 'MeshPeer', metadata: { name }, ...fields }
  }
}
