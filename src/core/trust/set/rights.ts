// Which names and prefixes a seat may decide on: comparisons of Rights, without a look at the set.
import type { Rights } from './statement.ts'
import { isInsideOne, type PrefixRange } from './prefix-range.ts'

/** A fault of a statement's content: the field, the reason, and what its author can do. */
export interface Fault {
  readonly field: string
  readonly reason: string
  readonly fix: string
}

/** Whether one of the seat's names stands for this cluster name. */
export function coversName(rights: Pick<Rights, 'names'>, name: string): boolean {
  return rights.names.some((pattern) => matches(pattern, name))
}

/** The first prefix that lies in none of the seat's; undefined when there is none. */
export function prefixOutside(
  rights: Pick<Rights, 'prefixes'>,
  prefixes: readonly PrefixRange[]
): PrefixRange | undefined {
  return prefixes.find((prefix) => !isInsideOne(prefix, rights.prefixes))
}

/** Returns the right in which a child exceeds its parent (F3), or undefined. */
export function rightsFault(child: Rights, parent: Rights): Fault | undefined {
  const name = child.names.find((pattern) => !coversPattern(parent, pattern))
  if (name !== undefined) return fault('names', `the name ${name} is not among the parent's`)
  const prefix = prefixOutside(parent, child.prefixes)
  if (prefix !== undefined) return fault('prefixes', `the prefix ${prefix.cidr} lies outside the parent's`)
  if (child.inviteDaysMax > parent.inviteDaysMax)
    return fault(
      'inviteDaysMax',
      `${child.inviteDaysMax} days are more than the parent's ${parent.inviteDaysMax}`
    )
  if (child.clustersMax > parent.clustersMax)
    return fault(
      'clustersMax',
      `${child.clustersMax} clusters are more than the parent's ${parent.clustersMax}`
    )
  if (!parent.maySeat) return fault('under', 'the parent has no right to create seats')
  return undefined
}

/** Whether every name that `pattern` stands for is covered. */
function coversPattern(rights: Pick<Rights, 'names'>, pattern: string): boolean {
  if (!pattern.endsWith('*')) return coversName(rights, pattern)
  const start = pattern.slice(0, -1)
  return rights.names.some((outer) => outer.endsWith('*') && start.startsWith(outer.slice(0, -1)))
}

/** Whether a pattern stands for this name: "*" and "a*" stand for "a", too. */
function matches(pattern: string, name: string): boolean {
  return pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern
}

/** All faults of F3 have one remedy. */
function fault(field: string, reason: string): Fault {
  return { field, reason, fix: 'ask the parent for more rights, or create the seat under the roots' }
}
