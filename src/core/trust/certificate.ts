// One certificate of a chain: its fields, its encoding and its signatures. The format is the mesh's own
// (CertificateBody in proto/mesh.proto): it certifies a cluster name and prefixes, and it has exactly one encoding
// (invariant 1). chain.ts verifies chains of these. The issuer signs the encoded body as bytes; the body is never
// encoded again before it is verified.
// Invariants
//   1. A decoded certificate is canonical: encoding it again gives the same bytes. So a certificate with an unknown
//      field, a repeated field or a field that its kind does not have is refused; the field is never silently ignored.
//   2. The prefixes are canonical, routable and pairwise disjoint.
import { cidrOverlaps, cidrToPrefix, compareCidr, prefixToCidr } from '../model/cidr.ts'
import { unroutablePart } from '../model/unroutable.ts'
import type { Crypto } from '../model/crypto.ts'
import type { Cidr, ClusterName, Role } from '../model/values.ts'
import { parseClusterName } from '../model/identity.ts'
import {
  type CertificateBodyMessage,
  type CertificateMessage,
  type PrefixMessage,
  decodeCertificateBody,
  encodeMessage,
  wire
} from '../wire/messages.ts'
import { equalBytes, utf8 } from '../model/bytes.ts'

/** A decoded certificate of well-formed content. Its signatures are checked by `isSigned`. */
export type Certificate = GrantCertificate | AgentCertificate

interface Common {
  /** SHA-256 over the root keys of the mesh (`meshIdOf`), 32 bytes. */
  readonly meshId: Uint8Array
  /** `issuerKey` and `subjectKey` are raw Ed25519 public keys of 32 bytes. */
  readonly issuerKey: Uint8Array
  readonly subjectKey: Uint8Array
  /** 16 random bytes. */
  readonly serial: Uint8Array
  readonly validity: Validity
  readonly cluster: ClusterName
  /** SHA-256 of the body. */
  readonly hash: Uint8Array
}

/**
 * An invite or cluster certificate: binds a cluster name and its prefixes to the key of the invite or of the cluster.
 */
export interface GrantCertificate extends Common, Prefixes {
  readonly kind: 'invite' | 'cluster'
}

/** An agent certificate: binds the roles and the node name of an agent to its key. */
export interface AgentCertificate extends Common {
  readonly kind: 'agent'
  /** One or two roles, each once: `gateway`, `node`. */
  readonly roles: readonly Role[]
  /** The name of the agent's host, 1 to 253 characters. */
  readonly node: string
}

/** The validity of a certificate in Unix seconds; both bounds are inclusive. */
export interface Validity {
  readonly notBefore: number
  readonly notAfter: number
}

/** The prefixes of one cluster; both lists are sorted by `compareCidr`. */
export interface Prefixes {
  readonly podPrefixes: readonly Cidr[]
  readonly servicePrefixes: readonly Cidr[]
}

/** The content of a new certificate. `sealCertificate` adds the mesh, the issuer and the serial. */
export type CertificateDraft =
  | ({ readonly kind: 'invite' | 'cluster' } & DraftCommon & Prefixes)
  | ({ readonly kind: 'agent'; readonly roles: readonly Role[]; readonly node: string } & DraftCommon)

interface DraftCommon {
  readonly cluster: ClusterName
  readonly validity: Validity
}

/** A decoded certificate, or the reason why its form is wrong. */
type Opened =
  | { readonly kind: 'opened'; readonly certificate: Certificate }
  | { readonly kind: 'malformed'; readonly reason: string }

/**
 * Decodes a certificate and checks its form. Signatures are checked by `verifyChain`, which knows the issuers. Never
 * throws.
 */
export function openCertificate(crypto: Crypto, message: CertificateMessage): Opened {
  if (message.body.length > BODY_BYTES_MAX) return malformed(`it has more than ${BODY_BYTES_MAX} bytes`)
  const body = decodeCertificateBody(message.body)
  if (body === undefined) return malformed('it cannot be decoded')
  if (!equalBytes(encodeMessage<object>(wire.CertificateBody, body), message.body)) {
    return malformed('it has fields that this version does not know')
  }
  const kind = KIND_OF_NUMBER.get(body.kind)
  if (kind === undefined) return malformed(`this version does not know its kind (${body.kind})`)
  if (body.meshId.length !== 32 || body.issuerKey.length !== 32 || body.subjectKey.length !== 32) {
    return malformed('one of its keys, or its mesh id, is not 32 bytes long')
  }
  if (body.serial.length !== SERIAL_BYTES) return malformed('its serial is not 16 bytes long')
  const validity = { notBefore: body.notBefore, notAfter: body.notAfter }
  if (validity.notBefore < 0 || validity.notAfter < validity.notBefore || validity.notAfter > SECONDS_MAX) {
    return malformed('its validity dates are in the wrong order or out of range')
  }
  const name = parseClusterName(body.cluster)
  if (name.kind === 'invalid') return malformed(`its cluster name is invalid: ${name.reason}`)
  const common: Common = {
    meshId: body.meshId,
    issuerKey: body.issuerKey,
    subjectKey: body.subjectKey,
    serial: body.serial,
    validity,
    cluster: name.clusterName,
    hash: crypto.sha256(message.body)
  }
  return kind === 'agent' ? openAgent(common, body) : openGrant(kind, common, body)
}

/**
 * Signs a draft. The subject's key also signs the certificate of a cluster or an agent (proto: Certificate.acceptance),
 * so an issuer cannot certify a key that belongs to another agent. Seeds have 32 bytes; `acceptance` is empty for an
 * invite. Throws RangeError for bad prefixes or a bad node name.
 */
export function sealCertificate(options: {
  readonly crypto: Crypto
  readonly meshId: Uint8Array
  readonly issuerSeed: Uint8Array
  readonly subjectSeed: Uint8Array
  readonly draft: CertificateDraft
}): { readonly body: Uint8Array; readonly signature: Uint8Array; readonly acceptance: Uint8Array } {
  const { crypto, draft } = options
  if (draft.kind !== 'agent') {
    const fault = checkPrefixes(draft)
    if (fault !== undefined) throw new RangeError(fault)
  } else if (!NODE_NAME.test(draft.node)) {
    throw new RangeError(`${JSON.stringify(draft.node)} is not a node name`)
  }
  const body = encodeMessage(wire.CertificateBody, {
    kind: NUMBER_OF_KIND[draft.kind],
    meshId: options.meshId,
    issuerKey: crypto.publicKeyOf(options.issuerSeed),
    subjectKey: crypto.publicKeyOf(options.subjectSeed),
    serial: crypto.random(SERIAL_BYTES),
    notBefore: draft.validity.notBefore,
    notAfter: draft.validity.notAfter,
    cluster: draft.cluster,
    ...(draft.kind === 'agent'
      ? { roles: [...draft.roles], node: draft.node }
      : {
          podPrefixes: draft.podPrefixes.toSorted(compareCidr).map(cidrToPrefix),
          servicePrefixes: draft.servicePrefixes.toSorted(compareCidr).map(cidrToPrefix)
        })
  })
  return {
    body,
    signature: crypto.sign(options.issuerSeed, CERTIFICATE_DOMAIN, body),
    acceptance:
      draft.kind === 'invite' ? new Uint8Array(0) : crypto.sign(options.subjectSeed, ACCEPTANCE_DOMAIN, body)
  }
}

/** True when the issuer and, except for an invite, the subject have signed this body (Ed25519). */
export function isSigned(crypto: Crypto, message: CertificateMessage, certificate: Certificate): boolean {
  if (!crypto.verify(certificate.issuerKey, message.signature, CERTIFICATE_DOMAIN, message.body)) return false
  if (certificate.kind === 'invite') return message.acceptance.length === 0
  return crypto.verify(certificate.subjectKey, message.acceptance, ACCEPTANCE_DOMAIN, message.body)
}

/**
 * Returns the reason why a certificate cannot have these prefixes; undefined when it can. The text names the offending
 * prefixes, so `init` and `invite` show it to the operator.
 */
export function checkPrefixes(prefixes: Prefixes): string | undefined {
  const { podPrefixes, servicePrefixes } = prefixes
  if (podPrefixes.length > PREFIXES_MAX || servicePrefixes.length > PREFIXES_MAX) {
    return `there are more than ${PREFIXES_MAX} prefixes of one kind`
  }
  const all = [
    ...podPrefixes.map((cidr) => ({ cidr, what: 'pod prefix' })),
    ...servicePrefixes.map((cidr) => ({ cidr, what: 'service prefix' }))
  ]
  for (const [index, { cidr, what }] of all.entries()) {
    const special = unroutablePart(cidr)
    if (special !== undefined)
      return `${what} ${cidr} overlaps ${special}, which is never routed between hosts`
    const other = all.slice(0, index).find((before) => cidrOverlaps(before.cidr, cidr))
    if (other !== undefined)
      return `${what} ${cidr} overlaps ${other.what} ${other.cidr}: the prefixes must be disjoint`
  }
  return undefined
}

// Domain tags before the signed bytes, so that a signature of one kind is never valid as one of another kind.
const CERTIFICATE_DOMAIN = utf8('rhizome/certificate/1\0')
const ACCEPTANCE_DOMAIN = utf8('rhizome/acceptance/1\0')
const SERIAL_BYTES = 16
// Prefixes of each kind. With 2 × 32 prefixes of about 24 bytes, three keys and the names, a certificate has less than
// 2 KiB, and a chain of three has less than CHAIN_BYTES_MAX (8 KiB).
const PREFIXES_MAX = 32
const BODY_BYTES_MAX = 4096
/** The end of the year 9999, the last year that ISO 8601 writes with four digits. */
const SECONDS_MAX = 253_402_300_799
/** Kubernetes node names are DNS subdomains; other hosts may use capitals. */
const NODE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$/

const NUMBER_OF_KIND = {
  invite: wire.CertificateKind.INVITE,
  cluster: wire.CertificateKind.CLUSTER,
  agent: wire.CertificateKind.AGENT
} as const
const KIND_OF_NUMBER = new Map<number, Certificate['kind']>([
  [wire.CertificateKind.INVITE, 'invite'],
  [wire.CertificateKind.CLUSTER, 'cluster'],
  [wire.CertificateKind.AGENT, 'agent']
])

/** Checks the fields of an invite or a cluster certificate (invariants 1 and 2). */
function openGrant(kind: GrantCertificate['kind'], common: Common, body: CertificateBodyMessage): Opened {
  if (body.roles.length > 0 || body.node !== '')
    return malformed(`it is of the kind ${kind}, but has the roles or the node name of an agent`)
  if (body.podPrefixes.length > PREFIXES_MAX || body.servicePrefixes.length > PREFIXES_MAX) {
    return malformed(`it has more than ${PREFIXES_MAX} prefixes of one kind`)
  }
  const podPrefixes = cidrsOf(body.podPrefixes)
  const servicePrefixes = cidrsOf(body.servicePrefixes)
  if (podPrefixes === undefined || servicePrefixes === undefined)
    return malformed('one of its prefixes is malformed')
  const fault = checkPrefixes({ podPrefixes, servicePrefixes })
  if (fault !== undefined) return malformed(fault)
  return { kind: 'opened', certificate: { kind, ...common, podPrefixes, servicePrefixes } }
}

/**
 * Checks the fields of an agent certificate (invariant 1). An unknown role is refused, because its rights are unknown.
 */
function openAgent(common: Common, body: CertificateBodyMessage): Opened {
  if (body.podPrefixes.length > 0 || body.servicePrefixes.length > 0) {
    return malformed('it is the certificate of an agent, but has prefixes')
  }
  const roles = body.roles.filter(isRole)
  if (roles.length === 0 || roles.length !== body.roles.length || new Set(roles).size !== roles.length) {
    return malformed(
      'it is the certificate of an agent, but has no roles, or roles that this version does not know'
    )
  }
  if (!NODE_NAME.test(body.node))
    return malformed('it is the certificate of an agent with a malformed node name')
  return { kind: 'opened', certificate: { kind: 'agent', ...common, roles, node: body.node } }
}

/** Decodes prefixes and sorts them; undefined when one of them is malformed or has host bits. */
function cidrsOf(prefixes: readonly PrefixMessage[]): readonly Cidr[] | undefined {
  const cidrs = prefixes.map(prefixToCidr).filter((cidr) => cidr !== undefined)
  return cidrs.length === prefixes.length ? cidrs.sort(compareCidr) : undefined
}

function isRole(text: string): text is Role {
  return text === 'gateway' || text === 'node'
}

function malformed(reason: string): Opened {
  return { kind: 'malformed', reason }
}
