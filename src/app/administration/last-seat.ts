// Which seat may not be removed without a question: after it, the mesh as a whole could not be administered any more.
import type { Cidr } from '../../core/model/values.ts'
import { isInsideOne, rangeOf } from '../../core/trust/set/prefix-range.ts'
import type { Rights, Seat } from '../../core/trust/set/statement.ts'
import { AppError } from '../observe/errors.ts'

/** All addresses of each family. */
const EVERYWHERE = (['0.0.0.0/0', '::/0'] as const).map((cidr) => rangeOf(cidr as Cidr))

/**
 * Refuses to remove a seat when no seat would stand afterwards, or the last one for all names and prefixes would go, and
 * the root keys that could create another one are in no file. `standing`: the seats that stand, with `target`. Root keys
 * that are neither here nor known to be in a file are with another administrator, if anywhere; then only the last seat
 * of all is refused. Errors: AppError LAST_SEAT.
 */
export function refuseLastSeatStanding(
  standing: readonly Seat[],
  target: Seat,
  { hasRoots, isInFile }: { readonly hasRoots: boolean; readonly isInFile: boolean }
): void {
  if (isInFile) return
  const others = standing.filter(({ id }) => id !== target.id)
  if (others.length === 0 && !hasRoots)
    throw new AppError(
      'LAST_SEAT',
      'this is the last seat of the mesh: nothing could be administered after it',
      'add another one first: `meshctl admin add`, or import the roots: `meshctl root import`; `meshctl admin remove --force` removes it nevertheless'
    )
  if (!hasRoots || !isUnrestricted(target) || others.some(isUnrestricted)) return
  throw new AppError(
    'LAST_SEAT',
    'this is the last seat for all names and prefixes, and the root keys that could create another one are in no file',
    'export the root keys first (`meshctl root export <file> --keep`), or add another administrator (`meshctl admin add`); `meshctl admin remove --force` removes it nevertheless'
  )
}

/** Whether a seat may invite and end clusters of every name, with every prefix. */
function isUnrestricted({ names, prefixes }: Pick<Rights, 'names' | 'prefixes'>): boolean {
  return names.includes('*') && EVERYWHERE.every((range) => isInsideOne(range, prefixes))
}
