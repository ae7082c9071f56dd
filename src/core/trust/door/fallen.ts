// The refusal of an agent that does not stand: its code, a text, and the statements that cause it. The app sends it
// after the trust sets were exchanged; before that a peer may bring the statement by which it stands.
import type { MemberVerdict } from '../members/members.ts'
import type { TrustSet } from '../set/trust-set.ts'
import { rejection, type Rejection } from './codes.ts'
import { EXPLAIN_MAX } from './frames.ts'

/** The refusal of an agent that does not stand, or whose cluster is not known, with the encoded items that explain it. */
export function rejectionOf(
  set: Pick<TrustSet, 'itemOf'>,
  verdict: Exclude<MemberVerdict, { kind: 'stands' }>
): Rejection & { readonly explain: readonly Uint8Array[] } {
  if (verdict.kind === 'unknown')
    return {
      ...rejection('unknownSponsor', 'the member that admitted the cluster is not known here'),
      explain: []
    }
  const explain = verdict.explain
    .slice(0, EXPLAIN_MAX)
    .map((id) => set.itemOf(id))
    .filter((item) => item !== undefined)
  return { ...fallenRejection('the agent', verdict), explain }
}

/** Code and text for an agent that does not stand. `who` names it. */
export function fallenRejection(
  who: string,
  { code, reason }: Pick<Extract<MemberVerdict, { kind: 'fallen' }>, 'code' | 'reason'>,
  remedy?: string
): Rejection {
  const text = `${who} does not stand: ${reason}`
  // A newer certificate of the same cluster takes the place of an old one.
  if (code === 'generation')
    return rejection('replaced', text, remedy ?? 'restart meshd on that agent, which renews its certificate')
  return rejection(code, text, remedy)
}
