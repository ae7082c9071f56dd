// What a newcomer has made of its token and shows at the door: its invite, and the certificate of its cluster key.
import type { Crypto } from '../../model/crypto.ts'
import { encodeItem, type OpenedItem } from '../set/form.ts'
import { keyId } from '../set/ids.ts'
import type { ClusterCert, Invite } from '../set/statement.ts'
import type { DoorPort } from './port.ts'

/** A newcomer's own items, opened. */
export interface Own {
  readonly invite: Invite
  readonly inviteItem: Uint8Array
  readonly cert: ClusterCert
  readonly certEnvelope: Uint8Array
  readonly clusterSeed: Uint8Array
}

/** Opens what this newcomer made of its token. It is on disk, so a fault here is this agent's own and throws. */
export function openOwn(
  { crypto, door }: { readonly crypto: Crypto; readonly door: Pick<DoorPort, 'openItem'> },
  { certItem, clusterSeed }: { readonly certItem: Uint8Array; readonly clusterSeed: Uint8Array }
): Own {
  const item: OpenedItem | { readonly kind: 'refused'; readonly reason: string } = door.openItem(certItem)
  if (item.kind === 'refused') throw new Error(`the own cluster certificate is damaged: ${item.reason}`)
  const last = item.statements.at(-1)
  const before = item.statements.slice(0, -1)
  const invite = before.at(-1)?.statement
  if (last?.statement.kind !== 'clusterCert' || invite?.kind !== 'invite')
    throw new Error('the own item does not end in an invite and a cluster certificate')
  const cert = last.statement
  if (cert.clusterKey !== keyId(crypto.publicKeyOf(clusterSeed)))
    throw new Error('the own cluster certificate is of another key')
  const inviteItem = encodeItem(before.map(({ envelope }) => envelope))
  return { invite, inviteItem, cert, certEnvelope: last.envelope, clusterSeed }
}
