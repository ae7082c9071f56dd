// Columns aligned with spaces, as kubectl's: no borders, nothing cut, no space at the end of a line. Where a terminal is too narrow for a
// row, columns that may be folded go to lines of their own below it, wrapped to the width; into a pipe a row is always one line.
// Our own because cli-table3 takes time quadratic in the rows: 4,000 rows took it 3 s, and a mesh has 10,000 services.
import { stripVTControlCharacters } from 'node:util'
import type { Colour, Style } from './style.ts'

export interface Column<Row> {
  readonly title: string
  /** Empty text is shown as "-". */
  readonly value: (row: Row) => string
  readonly colour?: (row: Row) => Colour | undefined
  /** Default true. */
  readonly shown?: boolean
  /** Columns are folded in the order of this number until a row fits the terminal; without it a column stays in the row. */
  readonly fold?: number
}

/** The part of the context (context.ts) that a table depends on. */
export interface TableLook {
  readonly style: Style
  /** False: rows only. */
  readonly headers: boolean
  /** Cells of a line of the terminal; undefined: stdout is no terminal. */
  readonly width: number | undefined
}

export function formatTable<Row>(
  rows: readonly Row[],
  columns: readonly Column<Row>[],
  look: TableLook
): string {
  const shown = columns
    .filter((column) => column.shown !== false)
    .map((column) => {
      const cells = rows.map((row) => column.value(row) || '-')
      const width = cells.reduce(
        (most, cell) => Math.max(most, cellsOf(cell)),
        look.headers ? column.title.length : 0
      )
      return { column, cells, width }
    })
  const folded = foldedColumns(shown, look.width)
  const inRow = shown.filter((entry) => !folded.includes(entry))
  const lines: string[] = []
  if (look.headers)
    lines.push(
      inRow
        .map(({ column, width }) => pad(look.style.paint('bold', column.title), column.title, width))
        .join(GAP)
        .trimEnd()
    )
  for (const [at, row] of rows.entries()) {
    const line = inRow.map(({ column, cells, width }) => {
      const text = cells[at] ?? ''
      return pad(painted(column, row, text, look.style), text, width)
    })
    lines.push(line.join(GAP).trimEnd())
    for (const { column, cells } of folded) {
      const text = cells[at] ?? ''
      if (text === '-') continue
      const pieces = wrap(`${column.title} ${text}`, Math.max(MIN_WIDTH, (look.width ?? 0) - INDENT.length))
      lines.push(...pieces.map((piece) => INDENT + painted(column, row, piece, look.style)))
    }
  }
  return lines.join('\n')
}

function painted<Row>(column: Column<Row>, row: Row, text: string, style: Style): string {
  const colour = column.colour?.(row)
  return colour === undefined ? text : style.paint(colour, text)
}

interface Measured<Row> {
  readonly column: Column<Row>
  readonly cells: readonly string[]
  readonly width: number
}

/** The fewest columns, in the order of `fold`, without which a row fits. */
function foldedColumns<Row>(
  shown: readonly Measured<Row>[],
  width: number | undefined
): readonly Measured<Row>[] {
  if (width === undefined) return []
  const candidates = shown
    .filter(({ column }) => column.fold !== undefined)
    .toSorted((a, b) => (a.column.fold ?? 0) - (b.column.fold ?? 0))
  for (let count = 0; count <= candidates.length; count++) {
    const folded = new Set(candidates.slice(0, count))
    const rest = shown.filter((entry) => !folded.has(entry))
    const total = rest.reduce((sum, entry) => sum + entry.width, 0) + GAP.length * (rest.length - 1)
    if (total <= width) return shown.filter((entry) => folded.has(entry))
  }
  return shown.filter((entry) => candidates.includes(entry))
}

/** Lines of at most `width` cells, broken at spaces and after commas; a longer word is broken where the line ends. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const piece of text.split(/(?<=,)(?! )|(?= )/)) {
    const isApart = piece.startsWith(' ')
    const word = isApart ? piece.slice(1) : piece
    const glue = line !== '' && isApart ? ' ' : ''
    if (line !== '' && cellsOf(line + glue + word) > width) {
      lines.push(line)
      line = ''
    }
    line = line === '' ? word : line + glue + word
    for (let letters = Array.from(line); letters.length > width; letters = Array.from(line)) {
      lines.push(letters.slice(0, width).join(''))
      line = letters.slice(width).join('')
    }
  }
  return line === '' ? lines : [...lines, line]
}

/** Lines of "label   text", the texts aligned and, on a terminal of `width` cells, wrapped below themselves. */
export function formatFields(
  fields: readonly (readonly [label: string, text: string])[],
  width?: number
): string {
  const indent = Math.max(...fields.map(([label]) => label.length)) + GAP.length
  return fields
    .flatMap(([label, text]) => {
      const room = width === undefined ? Infinity : Math.max(MIN_WIDTH, width - indent)
      // A text that fits stays as it is, colours included; colours do not survive wrapping.
      const lines =
        cellsOf(stripVTControlCharacters(text)) <= room ? [text] : wrap(stripVTControlCharacters(text), room)
      return lines.map((line, at) => `${(at === 0 ? label : '').padEnd(indent)}${line}`)
    })
    .join('\n')
}

const GAP = '   '
const INDENT = '  '
// Below this a wrapped text is harder to read than a line that the terminal breaks.
const MIN_WIDTH = 20

function pad(painted: string, text: string, width = 0): string {
  return painted + ' '.repeat(Math.max(0, width - cellsOf(text)))
}

/** Terminal cells, near enough: names and addresses are ASCII, free text stands in the last column. */
function cellsOf(text: string): number {
  return Array.from(text).length
}
