// The types of the exchange's interface: the set that it stands on, and the effects that it returns.
import type { Origin } from '../../model/values.ts'
import type { StatementId } from '../set/ids.ts'
import type { TrustSet } from '../set/trust-set.ts'

/** The part of the trust set that the exchange needs. `version` must be the set's own, and rise with each change. */
export type ExchangeSet = Pick<TrustSet, 'version' | 'open' | 'addOpened' | 'has' | 'ids' | 'itemOf'>

/** One action for the caller, which carries them out in the order given. */
export type ExchangeEffect =
  | { readonly kind: 'send'; readonly to: Origin; readonly frame: Uint8Array }
  /** Write these statements, which are new in the set. Nothing waits for it: peers have them, too. */
  | { readonly kind: 'store'; readonly ids: readonly StatementId[] }
  /** A bound took these out of the set; remove them from the store. Some may never have been written. */
  | { readonly kind: 'remove'; readonly ids: readonly StatementId[] }
  /** The set holds what this neighbour has, as far as this agent takes it. Once for each connection. */
  | { readonly kind: 'inStep'; readonly peer: Origin }
  /** The neighbour sent what no honest agent sends: a malformed frame or item, or a signature that is not valid. */
  | { readonly kind: 'offence'; readonly peer: Origin; readonly reason: string }
  /** Count this by its reason; it is no fault of the neighbour. */
  | { readonly kind: 'refused'; readonly peer: Origin; readonly reason: string }
  /** Verified items wait for more work: call `tick` in the next turn of the loop. At most one, the last effect. */
  | { readonly kind: 'more' }
