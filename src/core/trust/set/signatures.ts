// Signing statements and verifying them. Every signature covers a tag of the kind, the id of the mesh and the body, so
// one of another kind or mesh is never valid here. Which key must sign is read from the statements of the same item.
import { equalBytes, utf8 } from '../../model/bytes.ts'
import type { Crypto } from '../../model/crypto.ts'
import { encodeMessage, type StatementMessage, wire } from '../../wire/messages.ts'
import { encodeBody, refusal } from './codec.ts'
import type { FormRules } from './form-rules.ts'
import { bytesOf, type KeyId, statementId, type StatementId } from './ids.ts'
import type { ItemChain } from './item-chain.ts'
import type { MeshRoots } from './mesh-roots.ts'
import type { Draft, Refusal, Statement, StatementKind } from './statement.ts'

/** A statement with its signatures. */
export interface Signed<S extends Statement = Statement> {
  readonly statement: S
  /** The encoded Statement of mesh.proto: body and signatures. */
  readonly envelope: Uint8Array
}

/** What the check of an item needs. */
export interface FormContext {
  readonly crypto: Crypto
  readonly roots: MeshRoots
  /** FORM_RULES when absent. */
  readonly rules?: FormRules
  /** The envelope of a statement that was checked before; its signatures are not verified again. */
  readonly known?: (id: StatementId) => Uint8Array | undefined
}

/** Seeds that sign a new statement. Each has 32 bytes. */
export interface Signers {
  /** The issuer; absent where the roots sign. */
  readonly issuer?: Uint8Array
  /** The certified key, for a ClusterCert or an AgentCert. */
  readonly accepting?: Uint8Array
  /** Seeds of k roots or more, in any order. */
  readonly roots?: readonly Uint8Array[]
}

/** Signs a draft, and returns its envelope and id. It does not check the draft; open the item that it goes into. */
export function signStatement(
  context: Pick<FormContext, 'crypto' | 'roots'>,
  draft: Draft,
  signers: Signers
): { readonly id: StatementId; readonly envelope: Uint8Array } {
  const { crypto, roots } = context
  const body = encodeBody(draft, crypto.random(16))
  // The certified key signs under a tag of its own, so that its consent is never taken for an issuer's signature.
  const parts = [utf8(domainOf(draft.kind)), roots.meshId, body]
  const accepted = [utf8(acceptanceDomainOf(draft.kind)), roots.meshId, body]
  const empty = new Uint8Array(0)
  const rootSignatures = (signers.roots ?? [])
    .map((seed) => ({
      root: roots.keys.findIndex((key) => equalBytes(key, crypto.publicKeyOf(seed))),
      signature: crypto.sign(seed, ...parts)
    }))
    .sort((a, b) => a.root - b.root)
  const envelope = encodeMessage(wire.Statement, {
    body,
    signature: signers.issuer === undefined ? empty : crypto.sign(signers.issuer, ...parts),
    acceptance: signers.accepting === undefined ? empty : crypto.sign(signers.accepting, ...accepted),
    rootSignatures
  })
  return { id: statementId(crypto.sha256(body)), envelope }
}

/** Returns the refusal of a statement whose signatures are not exactly those that its kind needs, or undefined. */
export function signatureRefusal(
  context: FormContext,
  rules: FormRules,
  of: { readonly message: StatementMessage; readonly signed: Signed; readonly chain: ItemChain }
): Refusal | undefined {
  const { message, chain } = of
  const { statement, envelope } = of.signed
  const known = context.known?.(statement.id)
  // Same bytes, same signatures: they were verified when the statement came for the first time.
  if (known !== undefined && equalBytes(known, envelope)) return undefined
  const issuer = issuerOf(statement, chain)
  const fault =
    issuer === undefined
      ? rootsFault(context, rules, message, statement)
      : message.rootSignatures.length > 0
        ? 'no roots sign this statement'
        : keyFault(context, rules, issuer, message.signature, [domainOf(statement.kind), message.body])
  if (fault !== undefined) return forged(statement.kind, 'signature', fault)
  const accepting = acceptingKey(statement)
  if (accepting === undefined)
    return message.acceptance.length > 0
      ? forged(statement.kind, 'acceptance', 'nothing is accepted')
      : undefined
  const refusedBy = keyFault(context, rules, accepting, message.acceptance, [
    acceptanceDomainOf(statement.kind),
    message.body
  ])
  return refusedBy === undefined ? undefined : forged(statement.kind, 'acceptance', refusedBy)
}

/** A signature of a refused form breaks F2; any other that is not valid may be damage or forgery. */
function forged(kind: StatementKind, field: string, fault: string): Refusal {
  const rule = fault.startsWith(FORM_OF_SIGNATURE) ? 'F2' : 'signature'
  return refusal(rule, kind, field, fault, 'the statement is damaged or forged: ask another member for it')
}

/** The key that signs; undefined: the roots. */
function issuerOf(statement: Statement, chain: ItemChain): KeyId | undefined {
  switch (statement.kind) {
    case 'clusterCert':
      return chain.invite(statement.invite)?.inviteKey
    case 'admission':
      return statement.sponsorKey
    case 'agentCert':
      return statement.clusterKey
    case 'bar':
      return 'cluster' in statement.by ? statement.by.cluster : chain.seat(statement.by.seat)?.adminKey
    case 'seat':
    case 'invite':
    case 'grant':
    case 'decide':
    case 'void':
      return chain.seat(statement.under)?.adminKey
    default:
      return statement satisfies never
  }
}

/** The key that must agree to be certified. Otherwise a cluster could certify the agent of another one as its own. */
function acceptingKey(statement: Statement): KeyId | undefined {
  if (statement.kind === 'clusterCert') return statement.clusterKey
  return statement.kind === 'agentCert' ? statement.agentKey : undefined
}

/** Returns why the roots have not signed, or undefined: k of them or more, by rising index, and each one valid. */
function rootsFault(
  context: FormContext,
  rules: FormRules,
  { body, signature, rootSignatures }: StatementMessage,
  { kind }: Statement
): string | undefined {
  const { k, keys } = context.roots
  if (signature.length > 0) return 'the roots sign this statement, not one key'
  if (rootSignatures.length < k || rootSignatures.length > keys.length)
    return `${rootSignatures.length} of the roots have signed, and ${k} must`
  for (const [at, one] of rootSignatures.entries()) {
    const key = keys[one.root]
    const before = rootSignatures[at - 1]?.root ?? -1
    if (key === undefined || one.root <= before) return 'the signatures of the roots are not in order'
    const fault = verifyFault(context, rules, key, one.signature, [domainOf(kind), body])
    if (fault !== undefined) return fault
  }
  return undefined
}

/** Returns why this key has not signed, or undefined. */
function keyFault(
  context: FormContext,
  rules: FormRules,
  key: KeyId,
  signature: Uint8Array,
  signed: readonly [string, Uint8Array]
): string | undefined {
  return verifyFault(context, rules, bytesOf(key), signature, signed)
}

/** The beginning of the reason when F2 refuses a signature; `forged` knows it by that. */
const FORM_OF_SIGNATURE = 'the form of the signature is refused'

/** Returns why one signature is refused, or undefined. */
function verifyFault(
  { crypto, roots }: FormContext,
  rules: FormRules,
  key: Uint8Array,
  signature: Uint8Array,
  [domain, body]: readonly [string, Uint8Array]
): string | undefined {
  const fault = rules.F2signature(signature)
  if (fault !== undefined) return `${FORM_OF_SIGNATURE}: ${fault}`
  return crypto.verify(key, signature, utf8(domain), roots.meshId, body)
    ? undefined
    : 'the signature is not valid'
}

/** A signature of one kind or mesh is never valid as one of another: the tag and the mesh id stand before the body. */
function domainOf(kind: StatementKind): string {
  return `rhizome/${kind}/2\0`
}

/** The tag under which a certified key agrees. */
function acceptanceDomainOf(kind: StatementKind): string {
  return `rhizome/${kind}-acceptance/2\0`
}
