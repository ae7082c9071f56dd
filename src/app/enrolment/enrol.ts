// The identity with which an agent in no mesh enters one: from the Secret of its cluster, or from a token.
import type { Prefixes } from '../../core/model/prefixes.ts'
import type { Crypto } from '../../core/model/crypto.ts'
import type { Identity, Store } from '../../io/store/store.ts'
import { redeemToken } from '../identity/identity.ts'
import type { Settings } from '../settings/settings.ts'
import { refuseNode, tokenFor } from './node-enrolment.ts'
import type { Enrolled, SharedKey } from './shared-key.ts'

interface EnrolOptions {
  readonly settings: Settings
  readonly store: Pick<Store, 'saveIdentity'>
  /** undefined without a Kubernetes API. */
  readonly sharedKey: Pick<SharedKey, 'enrol'> | undefined
  readonly crypto: Crypto
}

/**
 * Returns the identity to join with. `real`: the real prefixes of a cluster whose addresses are translated. Errors: those of
 * `redeemToken` and of SharedKey.enrol.
 */
export async function enrol(
  before: Identity,
  { token, real }: { readonly token: string | undefined; readonly real: Prefixes | undefined },
  { settings, store, sharedKey, crypto }: EnrolOptions
): Promise<Enrolled> {
  const [save, nowMs] = [store.saveIdentity.bind(store), Date.now()]
  if (sharedKey !== undefined)
    return sharedKey.enrol({ before, token: tokenFor(settings, token), nowMs, save, real })
  if (token === undefined) throw new Error('nothing to join with')
  refuseNode(settings)
  const pending = redeemToken(token, { crypto, identity: before, nowMs, real })
  // The key is on disk before any connection: after a crash this agent must still have the key that a member may have
  // accepted.
  await save(pending)
  return { identity: pending, isMember: false, untilAnswered: pending }
}
