// How a member keeps its key and that of the Secret equal (shared-key.ts): what the Secret gets of this agent, and what the
// agent takes when another gateway has put a later certificate into the Secret.
import type { KeyId } from '../../core/trust/set/ids.ts'
import type { Crypto } from '../../core/model/crypto.ts'
import type { Store } from '../../io/store/store.ts'
import { pendingMembership, type Membership } from '../identity/identity.ts'
import { withShared } from '../identity/shared-identity.ts'
import type { CurrentSession } from '../session/current-session.ts'
import type { Settings } from '../settings/settings.ts'
import { sharedAddresses } from './node-enrolment.ts'
import type { KeyMember } from './shared-key.ts'

interface KeyMemberOptions {
  readonly settings: Settings
  readonly current: CurrentSession
  readonly store: Store
  readonly crypto: Crypto
}

/** Returns this agent as SharedKey sees it. `renew` gives the running session the certificate that was taken. */
export function keyMember(
  { settings, current, store, crypto }: KeyMemberOptions,
  renew: (membership: Membership) => void
): KeyMember {
  return {
    identity: () => store.identity(),
    self: () => {
      const { control, facts } = current.required()
      const stands = (key: KeyId) => control.members.standing().clusters.get(key)?.verdict.stands === true
      return { origin: control.origin, addresses: sharedAddresses(settings, facts.multiaddrs), stands }
    },
    take: async (secret) => {
      const next = await store.changeIdentity((identity) =>
        withShared(identity, secret, { crypto, nowMs: Date.now() })
      )
      if (next !== undefined) renew(pendingMembership(next, crypto))
    }
  }
}
