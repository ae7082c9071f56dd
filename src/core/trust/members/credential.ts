// What an agent shows of itself: its certificate, after everything that made its cluster a member. It travels in Hello
// and with the agent's records. It says nothing about standing, which is computed from the trust set (members.ts).
// Invariant: openCredential never throws on any bytes.
import { originOf } from '../../model/identity.ts'
import type { ClusterName, Origin } from '../../model/values.ts'
import { refusal } from '../set/codec.ts'
import type { OpenedItem } from '../set/form.ts'
import { bytesOf, type KeyId } from '../set/ids.ts'
import type { AgentCert, Refusal } from '../set/statement.ts'
import type { TrustSet } from '../set/trust-set.ts'

/** A checked credential. */
export interface Credential {
  readonly kind: 'credential'
  /**
   * The encoded TrustItem: seats, invite, cluster certificate and admission (or a founding certificate), and the
   * AgentCert last. It is a copy of its own.
   */
  readonly bytes: Uint8Array
  readonly cluster: ClusterName
  readonly clusterKey: KeyId
  /** Raw Ed25519 public key, 32 bytes. */
  readonly agentKey: Uint8Array
  /** The PeerId of `agentKey`. */
  readonly origin: Origin
  /** Node, roles and generation. */
  readonly cert: AgentCert
  /** The statements of `bytes`, for the trust set. */
  readonly item: OpenedItem
}

/**
 * Checks an encoded credential: form, rights and signatures, but not standing. Signatures of statements that the set
 * holds are not verified again, so the credential of a known cluster costs two of them.
 */
export function openCredential(set: Pick<TrustSet, 'open'>, bytes: Uint8Array): Credential | Refusal {
  const item = set.open(bytes)
  if (item.kind === 'refused') return item
  const statements = item.statements.map(({ statement }) => statement)
  const cert = statements.at(-1)
  const named = statements.find(({ kind }) => kind === 'clusterCert')
  // An AgentCert needs what made its cluster a member, so no other kind ends an item with a cluster certificate in it.
  if (cert?.kind !== 'agentCert' || named?.kind !== 'clusterCert')
    return refusal('parents', cert?.kind ?? 'item', '', 'a credential ends in the certificate of an agent')
  const agentKey = bytesOf(cert.agentKey)
  return {
    kind: 'credential',
    // A frame's bytes are a view of a larger buffer, which the credential would keep alive.
    bytes: bytes.slice(),
    cluster: named.name,
    clusterKey: cert.clusterKey,
    agentKey,
    origin: originOf(agentKey),
    cert,
    item
  }
}
