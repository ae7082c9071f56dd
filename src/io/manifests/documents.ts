// Splits the text of a YAML file into documents before it is parsed (docs/decisions/0052). A malformed document then
// affects no other, a document that did not change need not be parsed again, and the event loop is free between two
// documents. read-file.ts uses it.
// Sources: YAML 1.2 §9 (document markers stand at the start of a line, and no scalar may have one there); kubectl
// splits at "---", too.

/** One document, or one item of a List. */
export interface Chunk {
  readonly text: string
  /** The number of lines of the file before the chunk. */
  readonly line: number
  /** Set for an item of a List: the text of the List without its items. */
  readonly list?: string
}

/** The documents of a file, without those that have only comments. */
export function splitDocuments(text: string): readonly Chunk[] {
  const chunks: Chunk[] = []
  let lines: string[] = []
  let start = 0
  const end = (next: number): void => {
    if (lines.some(hasContent)) chunks.push({ text: lines.join('\n'), line: start })
    lines = []
    start = next
  }
  for (const [index, line] of text.split('\n').entries()) {
    if (/^\.\.\.(\s|$)/.test(line)) end(index + 1)
    else if (/^---(\s|$)/.test(line) && !lines.every(isBeforeMarker)) end(index)
    if (!line.startsWith('...')) lines.push(line)
  }
  end(0)
  return chunks
}

/**
 * The items of a List in block style, as kubectl writes it, so that each can be malformed by itself. Undefined: the
 * chunk is no List, or has anchors or aliases, or is written in another style; then it is parsed as a whole.
 */
export function splitList({ text, line }: Chunk): readonly Chunk[] | undefined {
  if (!/^kind:[ \t]*["']?\w*List["']?[ \t\r]*$/m.test(text) || ANCHOR.test(text)) return undefined
  const lines = text.split('\n')
  const head = lines.findIndex((each) => /^items:[ \t]*(#.*)?\r?$/.test(each))
  const first = lines.findIndex((each, index) => index > head && hasContent(each))
  const indent = /^( *)- /.exec(lines[first] ?? '')?.[1]?.length
  if (head < 0 || first < 0 || indent === undefined) return undefined
  const starts: number[] = []
  let last = first
  // An item begins with "-" at the indentation of the first one. The list ends at the first line that is not indented
  // deeper.
  for (; last < lines.length; last += 1) {
    const each = lines[last] ?? ''
    if (each.startsWith(`${' '.repeat(indent)}-`) && /^ *-(\s|$)/.test(each)) starts.push(last)
    else if (hasContent(each) && !(each.search(/\S/) > indent)) break
  }
  const list = [...lines.slice(0, head), ...lines.slice(last)].join('\n')
  return starts.map((from, index) => {
    const [own = '', ...rest] = lines.slice(from, starts[index + 1] ?? last)
    return { text: [own.replace('-', ' '), ...rest].join('\n'), line: line + from, list }
  })
}

/**
 * All values of `name:` in a text. file-state.ts guesses with them which object a document that cannot be parsed was
 * before.
 */
export function namesIn(text: string): ReadonlySet<string> {
  return new Set(
    Array.from(text.matchAll(/(?<![-\w])name["']?:[ \t]*["']?([^\s"',{}[\]]+)/g), ([, name = '']) => name)
  )
}

/** An anchor or alias: it may refer to another part of the document, so the items cannot be parsed one by one. */
const ANCHOR = /(^|[\s[{,:])[&*][A-Za-z0-9_]/m

/** Whether a line is more than a comment, a directive or a marker. */
function hasContent(line: string): boolean {
  return !/^(---|%.*)?\s*(#.*)?$/.test(line)
}

/** Whether a line is a comment or directive, which belongs to the document that the next marker begins. */
function isBeforeMarker(line: string): boolean {
  return /^%|^\s*(#.*)?$/.test(line)
}
