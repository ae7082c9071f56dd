// What Maelstrom's set-full checker asks of `broadcast` and `g-set`, from a history of what clients saw.
// A value whose request was not answered may or may not have been added: only acknowledged ones must be read.

export type Operation =
  | { readonly kind: 'add'; readonly node: string; readonly value: number; acknowledged: boolean }
  | {
      readonly kind: 'read'
      readonly node: string
      readonly values: readonly number[]
      readonly final: boolean
    }

export interface Verdict {
  readonly acknowledged: number
  /** Acknowledged, and missing in the final read of a node (or the node was never read at the end). */
  readonly lost: readonly string[]
  /** Read, and nobody ever asked for it to be added. */
  readonly phantom: readonly string[]
  /** Read twice in one answer. */
  readonly duplicated: readonly string[]
  /** Read at a node, and later no more. */
  readonly withdrawn: readonly string[]
}

/** `history` in the order in which clients saw it. */
export function check(history: readonly Operation[], nodes: readonly string[]): Verdict {
  const acknowledged = new Set<number>()
  const asked = new Set<number>()
  for (const operation of history) {
    if (operation.kind !== 'add') continue
    asked.add(operation.value)
    if (operation.acknowledged) acknowledged.add(operation.value)
  }
  const seen = new Map(nodes.map((node) => [node, new Set<number>()]))
  const finals = new Map(nodes.map((node) => [node, new Set<number>()]))
  const [phantom, duplicated, withdrawn]: [string[], string[], string[]] = [[], [], []]
  for (const operation of history) {
    if (operation.kind !== 'read') continue
    const { node, values } = operation
    const now = new Set(values)
    if (now.size < values.length) duplicated.push(`${node}: ${values.length - now.size} values twice`)
    for (const value of now) if (!asked.has(value)) phantom.push(`${node}: ${value}`)
    for (const value of seen.get(node) ?? []) if (!now.has(value)) withdrawn.push(`${node}: ${value}`)
    seen.set(node, now)
    if (operation.final) finals.set(node, now)
  }
  const lost = nodes.flatMap((node) =>
    [...acknowledged]
      .filter((value) => finals.get(node)?.has(value) !== true)
      .map((value) => `${node}: ${value}`)
  )
  return { acknowledged: acknowledged.size, lost, phantom, duplicated, withdrawn }
}

export function isValid({ acknowledged, lost, phantom, duplicated, withdrawn }: Verdict): boolean {
  return acknowledged > 0 && [lost, phantom, duplicated, withdrawn].every((list) => list.length === 0)
}
