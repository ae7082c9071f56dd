// Where classes and functions begin and end. Prettier has brought the text into one form: what opens in a line ends in the next line of
// the same indentation that begins with a closing brace.

export interface Block {
  readonly kind: 'class' | 'function'
  /** That of the declaration, the method or the constant; "callback, line 12" where there is none. */
  readonly name: string
  readonly lines: number
  /** Without those of the named functions inside, which are blocks of their own. Callbacks count. */
  readonly ownLines: number
}

interface Found extends Omit<Block, 'ownLines'> {
  readonly start: number
}

export function blocksOf(text: string): readonly Block[] {
  const found = foundIn(text.split('\n'))
  return found.map(({ start, ...block }) => {
    const inside = found.filter((other) => other.start > start && other.start < start + block.lines)
    const named = inside.filter(({ kind, name }) => kind === 'function' && !name.startsWith(CALLBACK))
    // What is nested twice is in the lines of the outer one already.
    const outer = named.filter(
      (one) => !named.some((other) => other.start < one.start && one.start < other.start + other.lines)
    )
    return { ...block, ownLines: block.lines - outer.reduce((sum, { lines }) => sum + lines, 0) }
  })
}

function foundIn(lines: readonly string[]): readonly Found[] {
  return lines.flatMap((line, end) => {
    if (!line.endsWith('{') || /^\s*(\/\/|\*)/.test(line)) return []
    const start = headStart(lines, end)
    const head = lines
      .slice(start, end + 1)
      .join(' ')
      .trim()
    const found = classOf(head) ?? functionOf(head, start + 1)
    if (found === undefined) return []
    const indent = indentOf(line)
    const after = lines
      .slice(end + 1)
      .findIndex((next) => next.startsWith('}', indent) && indentOf(next) === indent)
    return after < 0 ? [] : [{ ...found, start, lines: end + 1 + after - start + 1 }]
  })
}

/** A head of several lines ends in a line such as "): void {" with the indentation of its first line. */
function headStart(lines: readonly string[], end: number): number {
  let start = end
  const indent = indentOf(lines[end] ?? '')
  while (start > 0 && /^[)}\]>]/.test((lines[start] ?? '').trim())) {
    start--
    while (start > 0 && indentOf(lines[start] ?? '') > indent) start--
  }
  return start
}

function indentOf(line: string): number {
  return line.length - line.trimStart().length
}

function classOf(head: string): Pick<Found, 'kind' | 'name'> | undefined {
  const name = /^(?:export )?(?:abstract )?class (\w+)/.exec(head)?.[1]
  return name === undefined ? undefined : { kind: 'class', name }
}

const CALLBACK = 'callback, line '
const STATEMENTS = /^(?:\} )?(?:if|for|while|switch|catch|else|do|try|return new|throw)\b/

function functionOf(head: string, line: number): Pick<Found, 'kind' | 'name'> | undefined {
  const declared = /(?:^|\s)function\*? (\w+)/.exec(head)?.[1]
  if (declared !== undefined) return { kind: 'function', name: declared }
  if (head.endsWith('=> {') || /\bfunction\*? ?\(/.test(head)) {
    const held =
      /^(?:export )?(?:const|let) (\w+)/.exec(head)?.[1] ?? /^(?:readonly )?(#?\w+)(?::| =)/.exec(head)?.[1]
    return { kind: 'function', name: held ?? `${CALLBACK}${line}` }
  }
  const method =
    /^(?:(?:static|async|override|private|protected|get|set) )*\*?(#?\w+|\[[^\]]+\])(?:<[^(]*>)?\(/.exec(
      head
    )?.[1]
  if (method === undefined || STATEMENTS.test(head) || !/\)(?:: .*)? \{$/.test(head)) return undefined
  return { kind: 'function', name: method }
}
