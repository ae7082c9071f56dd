// The rules of form, F1 to F5, as a table of functions. The table is a parameter of the decoder and of the trust set:
// the tests replace one row by a function that finds no fault, and expect that at least one test fails (P10).
// Source: "Form" of docs/trust-set.md.
import { equalBytes } from '../../model/bytes.ts'
import { coversName, type Fault, prefixOutside, rightsFault } from './rights.ts'
import type { Admission, ClusterCert, Decide, Grant, Invite, Seat } from './statement.ts'
import { pointFault, type PointFault, signatureFault } from './strict-ed25519.ts'

/** Each function returns a fault, or undefined; F1 returns whether the bytes are canonical. */
export interface FormRules {
  /** Canonical: the decoded message, encoded again, gives the same bytes. */
  F1(bytes: Uint8Array, encodedAgain: Uint8Array): boolean
  /** Keys, and R and S of signatures, have one encoding and are not of small order. */
  F2key(key: Uint8Array): PointFault | undefined
  F2signature(signature: Uint8Array): PointFault | undefined
  /** A seat is the child of a root seat, and its rights lie within that one's. `parent` has its own parent, or not. */
  F3(child: Seat, parent: Seat): Fault | undefined
  /**
   * What a seat gives lies within its rights: an invite's name, prefixes and span; the prefixes that
   * a grant adds; the name that it decides on.
   */
  F4invite(invite: Invite, seat: Seat): Fault | undefined
  F4grant(grant: Grant, seat: Seat): Fault | undefined
  F4decide(decide: Decide, seat: Seat): Fault | undefined
  /** A cluster certificate has the name of its invite, and does not replace its own key. */
  F4cert(cert: ClusterCert, invite: Invite): Fault | undefined
  /** `seen` is greater than the sponsor's, which is 0 for a founding cluster. */
  F5(admission: Admission, sponsorSeen: number): Fault | undefined
}

const DAY_SECONDS = 86_400

/** The rules as they hold. */
export const FORM_RULES: FormRules = {
  F1: equalBytes,
  F2key: pointFault,
  F2signature: signatureFault,
  F3(child, parent) {
    if (parent.under !== undefined)
      return fault('under', 'seats are two deep at most', 'create the seat under a root seat')
    return rightsFault(child, parent)
  },
  F4invite(invite, seat) {
    if (!coversName(seat, invite.cluster))
      return fault('cluster', `the seat may not invite ${invite.cluster}`, MORE_RIGHTS)
    const outside = prefixOutside(seat, [...invite.pods, ...invite.services])
    if (outside !== undefined)
      return fault('pods', `the prefix ${outside.cidr} lies outside the seat's`, MORE_RIGHTS)
    if (invite.notAfter - invite.notBefore > seat.inviteDaysMax * DAY_SECONDS)
      return fault('notAfter', `the span is longer than ${seat.inviteDaysMax} days`, 'choose an earlier end')
    return undefined
  },
  F4grant(grant, seat) {
    const outside = prefixOutside(seat, [...grant.add.pods, ...grant.add.services])
    if (outside === undefined) return undefined
    return fault('add', `the prefix ${outside.cidr} lies outside the seat's`, MORE_RIGHTS)
  },
  F4decide(decide, seat) {
    if (coversName(seat, decide.name)) return undefined
    return fault('name', `the seat may not decide on ${decide.name}`, MORE_RIGHTS)
  },
  F4cert(cert, invite) {
    if (cert.name !== invite.cluster)
      return fault(
        'name',
        `the invite is for ${invite.cluster}, not for ${cert.name}`,
        'redeem the token again'
      )
    if (cert.clusterKey === invite.replaces)
      return fault('clusterKey', 'a cluster key cannot replace itself', 'redeem the token with a new key')
    return undefined
  },
  F5(admission, sponsorSeen) {
    if (admission.seen > sponsorSeen) return undefined
    return fault(
      'seen',
      `${admission.seen} is not above the sponsor's ${sponsorSeen}`,
      'knock at another member'
    )
  }
}

const MORE_RIGHTS = 'ask an administrator whose seat covers it'

function fault(field: string, reason: string, fix: string): Fault {
  return { field, reason, fix }
}
