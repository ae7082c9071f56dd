// The newcomer's check of what the sponsor answered. It knows the roots of its token and next to nothing else, so it
// checks what follows from the answer itself: that the admission is one of its own key by its own invite, that a cluster
// signed it which has shown how it became one, and that its place is not an absurd one. Whether sponsor and admission
// stand is judged after the trust sets were exchanged.
import { BOUNDS } from '../set/bounds.ts'
import type { OpenedItem } from '../set/form.ts'
import type { KeyId, StatementId } from '../set/ids.ts'
import type { Credential } from '../members/credential.ts'
import { reasonOf } from './hello.ts'
import type { DoorPort } from './port.ts'

/** What the newcomer knows before the answer. */
interface Expected {
  readonly door: DoorPort
  readonly invite: StatementId
  readonly replaces: KeyId | undefined
  readonly clusterKey: KeyId
  /** The member that answers, proved. */
  readonly sponsor: Credential
}

/** The answer's items, checked; or a clause that says what is wrong with them. */
type AdmittedVerdict =
  | { readonly kind: 'good'; readonly item: OpenedItem; readonly sponsorItem: OpenedItem | undefined }
  | { readonly kind: 'bad'; readonly reason: string }

/** Checks an answer. Costs at most nine signatures. */
export function judgeAdmitted(
  { door, invite, replaces, clusterKey, sponsor }: Expected,
  answer: { readonly item: Uint8Array; readonly sponsor: Uint8Array | undefined }
): AdmittedVerdict {
  const item = door.openItem(answer.item)
  if (item.kind === 'refused') return bad(`the admission is refused: ${reasonOf(item)}`)
  const admission = item.statements.at(-1)?.statement
  if (admission?.kind !== 'admission') return bad('the answer does not end in an admission')
  // The certificate inside may be an older one of the same key: only the holders of both seeds can have made it.
  if (admission.clusterKey !== clusterKey) return bad('the admission is of another cluster key')
  if (admission.invite !== invite) return bad('the admission is by another invite')
  let signer = sponsor.item
  let sponsorItem: OpenedItem | undefined
  if (admission.sponsorKey !== sponsor.clusterKey) {
    if (answer.sponsor === undefined)
      return bad(
        "the admission is signed by another cluster than the sponsor's, which the answer does not show"
      )
    const opened = door.openItem(answer.sponsor)
    if (opened.kind === 'refused') return bad(`the signer of the admission is refused: ${reasonOf(opened)}`)
    const key = clusterOf(opened)
    if (key !== admission.sponsorKey) return bad('the answer shows another cluster than the one that signed')
    signer = sponsorItem = opened
  }
  const fault = seenFault(admission.seen, placeOf(signer), replaces !== undefined)
  return fault === undefined ? { kind: 'good', item, sponsorItem } : bad(fault)
}

/** The place that an item shows of its cluster: 0 for a founding one, else `seen` of its admission. */
export function placeOf({ statements }: OpenedItem): number {
  const found = statements.findLast(({ statement }) => statement.kind === 'admission')?.statement
  return found?.kind === 'admission' ? found.seen : 0
}

/** The key of the cluster that an item makes one; undefined when it ends in another kind. */
function clusterOf({ statements }: OpenedItem): KeyId | undefined {
  const last = statements.at(-1)?.statement
  if (last?.kind === 'admission') return last.clusterKey
  return last?.kind === 'clusterCert' && last.invite === undefined ? last.clusterKey : undefined
}

/**
 * F5, and an upper bound: an honest sponsor signs one more than its own place, the number of admissions that it holds,
 * and the place of the cluster that is replaced. A sponsor that signs the highest number would make a cluster that can
 * admit no other. That cluster would come last in each order of claims.
 */
function seenFault(seen: number, sponsorPlace: number, replaces: boolean): string | undefined {
  if (seen <= sponsorPlace)
    return `the admission has the place ${seen}, which is not above its sponsor's ${sponsorPlace}`
  const most = replaces ? SEEN_MAX : Math.max(sponsorPlace, BOUNDS.clusters) + 1
  return seen > most ? `the admission has the place ${seen}, and at most ${most} is plausible` : undefined
}

/** Where another cluster is replaced its place is not known here; a mesh comes to this one by a lie only. */
const SEEN_MAX = 2 ** 32

function bad(reason: string): AdmittedVerdict {
  return { kind: 'bad', reason }
}
