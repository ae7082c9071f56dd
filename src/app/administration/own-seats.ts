// The seats by which this agent signs as an administrator. A seat is found by its key in the trust set and not kept beside
// it, so a seat that another administrator created or ended counts, or ends, as soon as the statement is here.
import type { Crypto } from '../../core/model/crypto.ts'
import type { SeatSigner } from '../../core/trust/author/command.ts'
import type { Members } from '../../core/trust/members/members.ts'
import { keyId } from '../../core/trust/set/ids.ts'
import type { Seat } from '../../core/trust/set/statement.ts'
import type { Identity } from '../../io/store/store.ts'
import { bytes } from '../identity/encoding.ts'
import { AppError } from '../observe/errors.ts'

/** A seat of this agent that stands, with the seed of its key, which is a secret. */
export interface OwnSeat extends SeatSigner {
  readonly seat: Seat
}

/**
 * The seats that stand and whose key this agent has: those of its identity (of `meshctl init`, or of the cluster's Secret),
 * and those that were created for the key of `meshctl admin key`. One key can have several seats. O(n) of the seats.
 */
export function ownSeats(
  { adminSeed, seats = [] }: Identity,
  members: Pick<Members, 'set' | 'standing'>,
  crypto: Crypto
): readonly OwnSeat[] {
  const { set } = members
  const standing = members.standing()
  const seeds = [...seats.map((seat) => seat.adminSeed), ...(adminSeed === undefined ? [] : [adminSeed])]
  return [...new Set(seeds)].map(bytes).flatMap((seed) => {
    const key = keyId(crypto.publicKeyOf(seed))
    return [...set.seats.values()].flatMap(({ statement: seat }) => {
      const seatItem = set.itemOf(seat.id)
      const isOwn = seat.adminKey === key && standing.seats.get(seat.id)?.stands !== false
      return isOwn && seatItem !== undefined ? [{ seat, seatItem, adminSeed: seed }] : []
    })
  })
}

/**
 * Whether this agent knows that as many root keys as must sign are in files: it has exported or imported them. Then the mesh
 * does not hang on its disk.
 */
export function areRootsInFile({
  rootExported,
  rootInFile,
  rootsInFiles = [],
  mesh
}: Pick<Identity, 'rootExported' | 'rootInFile' | 'rootsInFiles' | 'mesh'>): boolean {
  return rootExported === true || rootInFile === true || (mesh !== undefined && rootsInFiles.length >= mesh.k)
}

/** The error of an agent without a seat. */
export function noSeat(): AppError {
  return new AppError(
    'NO_SEAT',
    'this agent holds no seat of an administrator',
    'run the command on an agent of an administrator: where `meshctl init` was run, or one that `meshctl admin add` named; an agent that holds the root keys creates a seat for itself: `meshctl admin key` prints its key, and `meshctl admin add <label> --key <key>` creates the seat'
  )
}
