// Bodies of statements: bytes to values and back. The signer signs the encoded body as bytes; it is never encoded again
// before it is verified.
// Invariants
//   1. A decoded body is canonical: encoding it again gives the same bytes (F1). So a field that its kind does not
//      have, a repeated field or an unknown one is refused, and each statement has one id. A kind or a field of a later
//      version is refused as `later`, which is no offence of its sender (later-fields.ts).
//   2. decodeBody never throws on any bytes.
import { cidrToPrefix } from '../../model/cidr.ts'
import type { Crypto } from '../../model/crypto.ts'
import { type StatementBodyMessage, decodeStatementBody, encodeMessage, wire } from '../../wire/messages.ts'
import { KEEP_MAX, Malformed, Reader } from './fields.ts'
import type { FormRules } from './form-rules.ts'
import { bytesOf, type KeyId, type ShortId, statementId, type StatementId } from './ids.ts'
import { hasLaterField } from './later-fields.ts'
import { compareRanges, type PrefixRange } from './prefix-range.ts'
import type { Draft, Refusal, Statement, StatementKind } from './statement.ts'

/** Bytes of a body without lists of ids: a seat with 32 names and 32 prefixes fits. */
const BODY_BYTES_MAX = 4096
/** Bytes of the body of a Void or a Bar: KEEP_MAX ids of 18 bytes, and the fields around them. */
const LIST_BODY_BYTES_MAX = KEEP_MAX * 18 + 256
/** The nonce makes two statements with the same content two ids, so that a Void names one of them. */
const NONCE_BYTES = 16
/** The end of the year 9999, the last one that ISO 8601 writes with four digits. */
const SECONDS_MAX = 253_402_300_799
/** Ten years: an invite that lives longer is a password. */
const DAYS_MAX = 3650
/** A mesh has no more clusters (bounds.ts). */
const CLUSTERS_MAX = 2048

/** Decodes one body. The answer names the kind, the field and a fix where it is refused. */
export function decodeBody(crypto: Crypto, rules: FormRules, body: Uint8Array): Statement | Refusal {
  if (body.length > LIST_BODY_BYTES_MAX) return tooLarge('item', body.length, LIST_BODY_BYTES_MAX)
  // The bound comes before the decoder, and the kind before the canonical form, so that an unknown kind is told apart.
  const message = decodeStatementBody(body)
  if (message === undefined) return refusal('F1', 'item', '', 'the body is not decodable')
  const kinds = KINDS.filter((kind) => message[kind] !== null)
  const [kind] = kinds
  if (kind === undefined) return refusal('later', 'item', '', 'the kind is unknown to this version', UPGRADE)
  if (kinds.length > 1) return refusal('F1', kind, '', 'the body has two kinds')
  if (kind !== 'void' && kind !== 'bar' && body.length > BODY_BYTES_MAX)
    return tooLarge(kind, body.length, BODY_BYTES_MAX)
  if (!rules.F1(body, encodeMessage<object>(wire.StatementBody, message)))
    return hasLaterField(body, kind)
      ? refusal('later', kind, '', 'it has a field that this version does not know', UPGRADE)
      : refusal('F1', kind, '', 'the body is not canonical')
  try {
    if (message.nonce.length !== NONCE_BYTES) throw new Malformed('nonce', 'the nonce must have 16 bytes')
    return read(new Reader(rules), message, statementId(crypto.sha256(body)))
  } catch (error) {
    if (!(error instanceof Malformed)) throw error
    return refusal(error.rule, kind, error.field, error.message)
  }
}

/** The bytes of a body. Lists are sorted here; the caller brings 16 random bytes as the nonce. */
export function encodeBody(draft: Draft, nonce: Uint8Array): Uint8Array {
  return encodeMessage(wire.StatementBody, { ...write(draft), nonce })
}

/** The fix for a statement of a later version. */
const UPGRADE = 'upgrade this agent'

/** A refusal, with the usual fix where none is given. */
export function refusal(
  rule: Refusal['rule'],
  statement: Refusal['statement'],
  field: string,
  reason: string,
  fix = 'make the statement again with meshctl of the version that the agents run'
): Refusal {
  return { kind: 'refused', rule, statement, field, reason, fix }
}

/** All kinds that this version knows, by the name of their field in StatementBody. */
const KINDS = [
  'seat',
  'invite',
  'grant',
  'bar',
  'decide',
  'void',
  'clusterCert',
  'admission',
  'agentCert'
] as const satisfies readonly StatementKind[]

/** F1: a body beyond its bound. */
function tooLarge(statement: Refusal['statement'], bytes: number, max: number): Refusal {
  return refusal('F1', statement, '', `${bytes} bytes are more than ${max}`)
}

/** The value of a message that has exactly one kind. */
function read(from: Reader, message: StatementBodyMessage, id: StatementId): Statement {
  const { seat, invite, grant, clusterCert, admission, agentCert } = message
  if (seat !== null)
    return {
      kind: 'seat',
      id,
      under: from.optionalId(seat.under, 'under'),
      adminKey: from.key(seat.adminKey, 'adminKey'),
      label: from.text(seat.label, 'label'),
      names: from.namePatterns(seat.names, 'names'),
      prefixes: from.ranges(seat.prefixes, 'prefixes'),
      inviteDaysMax: from.integer(seat.inviteDaysMax, 'inviteDaysMax', [0, DAYS_MAX]),
      clustersMax: from.integer(seat.clustersMax, 'clustersMax', [0, CLUSTERS_MAX]),
      maySeat: seat.maySeat
    }
  if (invite !== null) return readInvite(from, invite, id)
  if (grant !== null)
    return {
      kind: 'grant',
      id,
      under: from.id(grant.under, 'under'),
      clusterKey: from.key(grant.clusterKey, 'clusterKey'),
      add: from.podsAndServices(grant.addPods, grant.addServices, ['add.pods', 'add.services']),
      drop: from.ranges(grant.drop, 'drop')
    }
  if (clusterCert !== null) return readClusterCert(from, clusterCert, id)
  if (admission !== null)
    return {
      kind: 'admission',
      id,
      invite: from.id(admission.invite, 'invite'),
      clusterKey: from.key(admission.clusterKey, 'clusterKey'),
      sponsorKey: from.key(admission.sponsorKey, 'sponsorKey'),
      seen: from.integer(admission.seen, 'seen', [1, Number.MAX_SAFE_INTEGER]),
      time: from.integer(admission.time, 'time', [0, SECONDS_MAX])
    }
  if (agentCert === null) return readDecision(from, message, id)
  return {
    kind: 'agentCert',
    id,
    clusterKey: from.key(agentCert.clusterKey, 'clusterKey'),
    agentKey: from.key(agentCert.agentKey, 'agentKey'),
    node: from.node(agentCert.node, 'node'),
    roles: from.roles(agentCert.roles, 'roles'),
    generation: from.integer(agentCert.generation, 'generation', [0, Number.MAX_SAFE_INTEGER])
  }
}

/** Bar, Decide and Void: the statements about others. */
function readDecision(from: Reader, message: StatementBodyMessage, id: StatementId): Statement {
  const { bar, decide } = message
  const taken = message.void
  if (bar !== null) return readBar(from, bar, id)
  if (decide !== null)
    return {
      kind: 'decide',
      id,
      under: from.id(decide.under, 'under'),
      name: from.clusterName(decide.name, 'name'),
      clusterKey: from.key(decide.clusterKey, 'clusterKey')
    }
  if (taken === null) throw new Error('a body without a kind was read')
  return {
    kind: 'void',
    id,
    under: from.optionalId(taken.under, 'under'),
    target: from.id(taken.target, 'target'),
    keep: from.shortIds(taken.keep, 'keep')
  }
}

/** The dates of an invite are compared with each other and with its seat's span, never with a clock. */
function readInvite(
  from: Reader,
  invite: NonNullable<StatementBodyMessage['invite']>,
  id: StatementId
): Statement {
  const notBefore = from.integer(invite.notBefore, 'notBefore', [0, SECONDS_MAX])
  return {
    kind: 'invite',
    id,
    under: from.id(invite.under, 'under'),
    inviteKey: from.key(invite.inviteKey, 'inviteKey'),
    cluster: from.clusterName(invite.cluster, 'cluster'),
    ...from.podsAndServices(invite.pods, invite.services, ['pods', 'services']),
    namespaces: from.labels(invite.namespaces, 'namespaces'),
    notBefore,
    notAfter: from.integer(invite.notAfter, 'notAfter', [notBefore, SECONDS_MAX]),
    replaces: from.optionalKey(invite.replaces, 'replaces')
  }
}

/** A founding certificate has prefixes of its own, every other one those of its invite. */
function readClusterCert(
  from: Reader,
  cert: NonNullable<StatementBodyMessage['clusterCert']>,
  id: StatementId
): Statement {
  const invite = from.optionalId(cert.invite, 'invite')
  const { pods, services } = from.podsAndServices(cert.pods, cert.services, ['pods', 'services'])
  if (invite !== undefined && pods.length + services.length > 0)
    throw new Malformed('pods', 'the prefixes of an invited cluster stand in its invite')
  return {
    kind: 'clusterCert',
    id,
    invite,
    name: from.clusterName(cert.name, 'name'),
    clusterKey: from.key(cert.clusterKey, 'clusterKey'),
    pods,
    services
  }
}

/** A bar has one signer and one target; the roots sign none. */
function readBar(from: Reader, bar: NonNullable<StatementBodyMessage['bar']>, id: StatementId): Statement {
  const [seat, cluster] = [from.optionalId(bar.under, 'under'), from.optionalKey(bar.byCluster, 'by')]
  const [target, agent] = [
    from.optionalKey(bar.clusterKey, 'target'),
    from.optionalKey(bar.agentKey, 'target')
  ]
  const by = seat === undefined ? cluster && { cluster } : cluster === undefined ? { seat } : undefined
  const about =
    target === undefined ? agent && { agent } : agent === undefined ? { cluster: target } : undefined
  if (by === undefined) throw new Malformed('by', 'a seat or a cluster signs, not both')
  if (about === undefined) throw new Malformed('target', 'the target is a cluster or an agent, not both')
  const keepOnly = bar.keepOnly === null ? undefined : from.shortIds(bar.keepOnly.ids, 'keepOnly')
  // A stolen cluster key would otherwise take every cluster out that the cluster has ever let in.
  if (keepOnly !== undefined && (!('seat' in by) || !('cluster' in about)))
    throw new Malformed('keepOnly', 'only a seat can limit the admissions of a cluster')
  return { kind: 'bar', id, by, target: about, keepOnly }
}

/** What the encoder takes. */
type Body = NonNullable<Parameters<typeof wire.StatementBody.encode>[0]>

/**
 * The message of a draft, without its nonce. A draft has the names of its message where it has its form, too, so that
 * its texts and numbers are taken over; the encoder writes the fields that it knows.
 */
function write(draft: Draft): Body {
  switch (draft.kind) {
    case 'seat':
      return {
        seat: {
          ...draft,
          under: optional(draft.under),
          adminKey: bytesOf(draft.adminKey),
          names: draft.names.toSorted(),
          prefixes: prefixes(draft.prefixes)
        }
      }
    case 'invite':
      return {
        invite: {
          ...draft,
          under: bytesOf(draft.under),
          inviteKey: bytesOf(draft.inviteKey),
          pods: prefixes(draft.pods),
          services: prefixes(draft.services),
          namespaces: draft.namespaces.toSorted(),
          replaces: optional(draft.replaces)
        }
      }
    case 'grant':
      return {
        grant: {
          under: bytesOf(draft.under),
          clusterKey: bytesOf(draft.clusterKey),
          addPods: prefixes(draft.add.pods),
          addServices: prefixes(draft.add.services),
          drop: prefixes(draft.drop)
        }
      }
    case 'clusterCert':
      return {
        clusterCert: {
          ...draft,
          invite: optional(draft.invite),
          clusterKey: bytesOf(draft.clusterKey),
          pods: prefixes(draft.pods),
          services: prefixes(draft.services)
        }
      }
    case 'bar':
    case 'decide':
    case 'void':
    case 'admission':
    case 'agentCert':
      return writeSmall(draft)
    default:
      return draft satisfies never
  }
}

/**
 * The message of a kind that has no prefixes. It is a function of its own only because the table of all kinds is longer
 * than a function may be.
 */
function writeSmall(draft: Exclude<Draft, { kind: 'seat' | 'invite' | 'grant' | 'clusterCert' }>): Body {
  switch (draft.kind) {
    case 'bar':
      return {
        bar: {
          ...('seat' in draft.by
            ? { under: bytesOf(draft.by.seat) }
            : { byCluster: bytesOf(draft.by.cluster) }),
          ...('cluster' in draft.target
            ? { clusterKey: bytesOf(draft.target.cluster) }
            : { agentKey: bytesOf(draft.target.agent) }),
          ...(draft.keepOnly && { keepOnly: { ids: shortIds(draft.keepOnly) } })
        }
      }
    case 'decide':
      return {
        decide: { under: bytesOf(draft.under), name: draft.name, clusterKey: bytesOf(draft.clusterKey) }
      }
    case 'void':
      return {
        void: { under: optional(draft.under), target: bytesOf(draft.target), keep: shortIds(draft.keep) }
      }
    case 'admission':
      return {
        admission: {
          ...draft,
          invite: bytesOf(draft.invite),
          clusterKey: bytesOf(draft.clusterKey),
          sponsorKey: bytesOf(draft.sponsorKey)
        }
      }
    case 'agentCert':
      return {
        agentCert: {
          ...draft,
          clusterKey: bytesOf(draft.clusterKey),
          agentKey: bytesOf(draft.agentKey),
          roles: draft.roles.toSorted()
        }
      }
    default:
      return draft satisfies never
  }
}

/** An absent id or key is the empty byte string. */
function optional(id: StatementId | KeyId | undefined): Uint8Array {
  return id === undefined ? new Uint8Array(0) : bytesOf(id)
}

/** Prefixes as the wire has them, sorted as the decoder demands. */
function prefixes(ranges: readonly PrefixRange[]): { address: Uint8Array; length: number }[] {
  return ranges.toSorted(compareRanges).map(({ cidr }) => cidrToPrefix(cidr))
}

/** Short ids as bytes, sorted as the decoder demands. */
function shortIds(ids: ReadonlySet<ShortId>): Uint8Array[] {
  return [...ids].sort().map(bytesOf)
}
