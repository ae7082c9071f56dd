// The object MeshInvite (rhizome.io/v1alpha1), by which a person asks for a token that lets one cluster join: what it asks for,
// and which status it should have. The app's MeshInvites makes the invite and writes; mesh-invite-calls.ts has the calls;
// deploy/chart/rhizome/files/crds/meshinvites.yaml is the definition.
// Invariants
//   1. The token is in the Secret only. No type of this file has a field for it but `secretCall` (mesh-invite-calls.ts).
//   2. An object whose status names an invite gets no second one.
//   3. The reader bounds every field again, because the definition in the cluster may be an older one.
import { isDnsSubdomain } from '../model/dns-name.ts'
import { FieldCheck, isFields, type Fields } from '../model/field-check.ts'
import { fieldsAt, textAt } from '../kube/kube-api.ts'

/** What a MeshInvite asks for. Names and prefixes are checked where the invite is made, as those of `meshctl invite`. */
export interface InviteSpec {
  readonly cluster: string
  readonly podCidrs: readonly string[]
  readonly serviceCidrs: readonly string[]
  /** Prefixes that the cluster really uses, where others stand for them in the mesh. */
  readonly realPodCidrs: readonly string[]
  readonly realServiceCidrs: readonly string[]
  /** Namespaces that the cluster may export; empty: all. */
  readonly namespaces: readonly string[]
  readonly ttlSeconds: number
  /** The Secret of the same namespace that gets the token. */
  readonly secretName: string
}

/** The invite of an object, as its status names it. */
export interface MadeInvite {
  /** The id of the statement, 64 hexadecimal digits; no secret. */
  readonly id: string
  readonly expiresMs: number
  readonly podCidrs: readonly string[]
  readonly serviceCidrs: readonly string[]
}

/** What is known of an object. `reason` is CamelCase, for the conditions; `message` has the fix. */
export type InviteState =
  | { readonly kind: 'refused'; readonly reason: string; readonly message: string }
  /** `left`: this cluster has left the mesh of the invite. */
  | { readonly kind: 'open' | 'redeemed' | 'expired' | 'cancelled' | 'left'; readonly made: MadeInvite }

/** A MeshInvite as it was read. */
export interface HeldInvite {
  readonly name: string
  readonly uid: string
  /** Unix milliseconds; 0: not known. */
  readonly createdMs: number
  readonly generation: number
  readonly isDeleting: boolean
  /** A text: why the spec is refused. */
  readonly spec: InviteSpec | string
  /** The invite that the status names. */
  readonly made: MadeInvite | undefined
  readonly conditions: readonly Fields[]
  /** The status without times, as text to compare; '' without a status. */
  readonly firm: string
}

export interface InviteCondition {
  readonly type: 'Ready' | 'Redeemed'
  readonly status: 'True' | 'False'
  readonly reason: string
  readonly message: string
}

/** Secrets of the installation itself, in the same namespace: a MeshInvite may make none of them. */
const OWN_SECRETS: ReadonlySet<string> = new Set(['rhizome-cluster-key', 'rhizome-token', 'rhizome-webhook'])
// As many as a request of the admin API may name.
const LIST_MAX = 64
const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 }
/** The limit of `meshctl invite`, in seconds: a leap year. */
const TTL_SECONDS_MAX = 366 * 86_400
const DEFAULT_EXPIRY = '24h'
// Far below the limit of the API server for the message of a condition.
const MESSAGE_MAX = 4000

/** Reads a MeshInvite of the API server. It never throws. */
export function readInvite(object: Fields): HeldInvite {
  const name = textAt(object, 'metadata', 'name') ?? ''
  const { generation } = fieldsAt(object, 'metadata')
  const status = fieldsAt(object, 'status')
  const conditions = Array.isArray(status['conditions']) ? status['conditions'].filter(isFields) : []
  const made = readMade(status)
  return {
    name,
    uid: textAt(object, 'metadata', 'uid') ?? '',
    createdMs: Date.parse(textAt(object, 'metadata', 'creationTimestamp') ?? '') || 0,
    generation: typeof generation === 'number' ? generation : 0,
    isDeleting: textAt(object, 'metadata', 'deletionTimestamp') !== undefined,
    spec: readSpec(fieldsAt(object, 'spec'), name),
    made,
    conditions,
    firm: conditions.length === 0 ? '' : firmOf(conditions, made, status['observedGeneration'])
  }
}

/** Reads what an object asks for, or returns why it is refused, with the fix. */
function readSpec(spec: Fields, name: string): InviteSpec | string {
  const check = new FieldCheck()
  const texts = (field: string): readonly string[] =>
    check
      .list(spec[field], `spec.${field}`, LIST_MAX)
      .map((each, index) => check.text(each, `spec.${field}[${index}]`, 100))
  const result = {
    cluster: check.label(spec['cluster'], 'spec.cluster'),
    podCidrs: texts('podCIDRs'),
    serviceCidrs: texts('serviceCIDRs'),
    realPodCidrs: texts('realPodCIDRs'),
    realServiceCidrs: texts('realServiceCIDRs'),
    namespaces: texts('namespaces'),
    ttlSeconds: secondsOf(check, check.text(spec['expiresIn'], 'spec.expiresIn', 20) || DEFAULT_EXPIRY),
    secretName: check.text(spec['secretName'], 'spec.secretName') || name
  }
  if (result.cluster === '')
    check.fail({
      where: 'spec.cluster',
      message: 'spec.cluster is missing',
      fix: 'name the cluster that may join'
    })
  if (!isDnsSubdomain(result.secretName))
    check.fail({
      where: 'spec.secretName',
      message: 'spec.secretName is not a name of a Secret',
      fix: 'use lower-case letters, digits, "-" and "."'
    })
  else if (OWN_SECRETS.has(result.secretName))
    check.fail({
      where: 'spec.secretName',
      message: `spec.secretName is ${result.secretName}, a Secret of this installation itself`,
      fix: 'choose another name'
    })
  return check.fault === undefined ? result : `${check.fault.message}; ${check.fault.fix}`
}

function secondsOf(check: FieldCheck, text: string): number {
  const [, digits = '', unit = ''] = /^([1-9][0-9]{0,8})([smhd])$/.exec(text) ?? []
  const seconds = Number(digits) * (UNITS[unit] ?? 0)
  if (seconds >= 1 && seconds <= TTL_SECONDS_MAX) return seconds
  check.fail({
    where: 'spec.expiresIn',
    message: `spec.expiresIn is ${JSON.stringify(text)}`,
    fix: 'use a number and a unit s, m, h or d, of at most 366d, as in 24h'
  })
  return 1
}

/** The invite that a status names; undefined when it names none, or a malformed one. */
function readMade(status: Fields): MadeInvite | undefined {
  const { inviteID: id } = status
  const expiresMs = Date.parse(textAt(status, 'expiresAt') ?? '')
  if (typeof id !== 'string' || !/^[0-9a-f]{64}$/.test(id) || Number.isNaN(expiresMs)) return undefined
  const texts = (value: unknown): readonly string[] =>
    Array.isArray(value)
      ? value
          .filter((each): each is string => typeof each === 'string' && each.length <= 100)
          .slice(0, LIST_MAX)
      : []
  return { id, expiresMs, podCidrs: texts(status['podCIDRs']), serviceCidrs: texts(status['serviceCIDRs']) }
}

/** The conditions of an object, in the order in which they are shown. */
export function inviteConditions(held: HeldInvite, state: InviteState): readonly InviteCondition[] {
  const { cluster = '', secretName = '' } = typeof held.spec === 'string' ? {} : held.spec
  const both = (
    ready: readonly ['True' | 'False', string, string],
    redeemed: readonly ['True' | 'False', string, string]
  ): readonly InviteCondition[] => [condition('Ready', ...ready), condition('Redeemed', ...redeemed)]
  switch (state.kind) {
    case 'refused':
      return both(
        ['False', state.reason, state.message.slice(0, MESSAGE_MAX)],
        ['False', 'NoInvite', 'no invite was made']
      )
    case 'open':
      return both(
        [
          'True',
          'TokenReady',
          `the Secret ${secretName} has the token, which is valid until ${timeText(state.made.expiresMs)}`
        ],
        ['False', 'Waiting', `cluster ${cluster} has not joined with the token yet`]
      )
    case 'redeemed': {
      const text = `cluster ${cluster} has joined with the token`
      return both(['True', 'Joined', text], ['True', 'Joined', text])
    }
    case 'expired': {
      const text = `the token expired unused: delete this MeshInvite and make another one for cluster ${cluster}`
      return both(['False', 'Expired', text], ['False', 'Expired', text])
    }
    case 'cancelled': {
      const text = `an administrator has taken the invite back, or another one of cluster ${cluster} took its place: delete this MeshInvite and make another one`
      return both(['False', 'Cancelled', text], ['False', 'Cancelled', text])
    }
    case 'left': {
      const text =
        'this cluster has left the mesh of the invite: delete this MeshInvite and make another one in a mesh'
      return both(['False', 'LeftMesh', text], ['False', 'LeftMesh', text])
    }
    default:
      return state satisfies never
  }
}

function condition(
  type: InviteCondition['type'],
  status: InviteCondition['status'],
  reason: string,
  message: string
): InviteCondition {
  return { type, status, reason, message }
}

/** Whether an object has other conditions, or another invite, than its state asks for. */
export function isInviteDue(held: HeldInvite, state: InviteState): boolean {
  return inviteText(held, state) !== held.firm
}

/** The status that a state asks for, without times, as text to compare. */
export function inviteText(held: HeldInvite, state: InviteState): string {
  return firmOf(
    inviteConditions(held, state),
    state.kind === 'refused' ? undefined : state.made,
    held.generation
  )
}

/** The reason of the condition Ready; '' without one. */
export function readyReason({ conditions }: Pick<HeldInvite, 'conditions'>): string {
  const ready = conditions.find(({ type }) => type === 'Ready')
  return textAt(ready, 'reason') ?? ''
}

/** The time of an invite as people and the API read it. Whole seconds, as in the token. */
export function timeText(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z')
}

/** The reason for a code of an error: "NameTaken" for NAME_TAKEN. */
export function reasonOf(code: string): string {
  const words = code.split('_').filter((word) => /^[A-Z0-9]+$/.test(word))
  return words.map((word) => `${word.slice(0, 1)}${word.slice(1).toLowerCase()}`).join('') || 'Failed'
}

function firmOf(
  conditions: readonly (Fields | InviteCondition)[],
  made: MadeInvite | undefined,
  generation: unknown
): string {
  const all = conditions as readonly Fields[]
  const shown = ['Ready', 'Redeemed'].map((type) => {
    const found = all.find((each) => each['type'] === type)
    return [found?.['status'], found?.['reason'], found?.['message']]
  })
  const invite = made && [made.id, timeText(made.expiresMs), made.podCidrs, made.serviceCidrs]
  return JSON.stringify([shown, invite, generation])
}
