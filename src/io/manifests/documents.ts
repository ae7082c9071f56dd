// The text of a YAML file, taken apart before it is parsed: a document that is malformed then spoils no other, one that did not change
// need not be parsed again, and the event loop is free between two of them.
// Sources: YAML 1.2 §9 (document markers stand at the start of a line, and no scalar may hold one there); kubectl splits at "---", too.

export interface Chunk {
  readonly text: string
  /** Lines of the file before it. */
  readonly line: number
  /** Of an item of a List: the List without its items. */
  readonly list?: string
}

/** The documents, without those that hold only comments. */
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

/** A List that is written in block style, as kubectl writes it, is as many documents as it has items. Undefined: it is none. */
export function splitList({ text, line }: Chunk): readonly Chunk[] | undefined {
  if (!/^kind:[ \t]*["']?\w*List["']?[ \t\r]*$/m.test(text) || ANCHOR.test(text)) return undefined
  const lines = text.split('\n')
  const head = lines.findIndex((each) => /^items:[ \t]*(#.*)?\r?$/.test(each))
  const first = lines.findIndex((each, index) => index > head && hasContent(each))
  const indent = /^( *)- /.exec(lines[first] ?? '')?.[1]?.length
  if (head < 0 || first < 0 || indent === undefined) return undefined
  const starts: number[] = []
  let last = first
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

/** What a document that cannot be parsed seems to be about. */
export function namesIn(text: string): ReadonlySet<string> {
  return new Set(
    Array.from(text.matchAll(/(?<![-\w])name["']?:[ \t]*["']?([^\s"',{}[\]]+)/g), ([, name = '']) => name)
  )
}

/** One of these may refer to another part of the document. */
const ANCHOR = /(^|[\s[{,:])[&*][A-Za-z0-9_]/m

function hasContent(line: string): boolean {
  return !/^(---|%.*)?\s*(#.*)?$/.test(line)
}

/** Comments and directives, which belong to the document that the marker begins. */
function isBeforeMarker(line: string): boolean {
  return /^%|^\s*(#.*)?$/.test(line)
}
