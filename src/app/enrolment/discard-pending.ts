// `meshctl leave` on an agent that waits for a member: what is left of a token that no member has answered.
import { withoutMesh } from '../identity/identity.ts'
import { notJoined } from '../session/current-session.ts'
import type { EntranceOptions } from './entrance.ts'
import type { SharedKey } from './shared-key.ts'

interface PendingParts extends Pick<EntranceOptions, 'node' | 'store' | 'log'> {
  readonly sharedKey: Pick<SharedKey, 'remove'> | undefined
}

/**
 * Discards the token that no member has answered, with the key made of it, also in the Secret. Errors: AppError
 * NOT_JOINED when there is none; KubeError, StoreError, after which it can be repeated.
 */
export async function discardPending({
  node,
  store,
  sharedKey,
  log
}: PendingParts): Promise<{ readonly cluster: string; readonly pending: boolean }> {
  const identity = await node.current()
  const { pending, cluster } = identity
  if (pending === undefined || cluster === undefined) throw notJoined()
  await sharedKey?.remove(identity, { onlyPending: true })
  await store.saveIdentity(withoutMesh(identity))
  log.info({ cluster }, 'the token that no member had answered is discarded')
  return { cluster, pending: true }
}
