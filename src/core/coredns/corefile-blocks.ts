// The server blocks of a Corefile: which zones it serves, and whether CoreDNS would load it. cluster-dns.ts reads
// Corefiles of other authors with it before it changes them (docs/decisions/0048).
// Source: the lexer and parser of coredns/caddy (caddyfile/lexer.go, parse.go) and the key rules of
// coredns/core/dnsserver/address.go.
import { parseCidr } from '../model/cidr.ts'
import { reverseZones } from './reverse-zones.ts'

/** One zone that a server block names. */
interface ServedZone {
  /** In lower case, without a final dot; '.' for the root. */
  readonly zone: string
  readonly port: number
  /** dns, tls, quic, grpc, https or https3: each is a listener of its own. */
  readonly transport: string
  /** The line of the key, from 1. */
  readonly line: number
}

/** `invalid`: CoreDNS would not load the file; `reason` names the lines. */
type Corefile =
  | { readonly kind: 'served'; readonly zones: readonly ServedZone[] }
  | { readonly kind: 'invalid'; readonly reason: string }

// The default port of each transport.
const PORTS: Readonly<Record<string, number>> = {
  dns: 53,
  tls: 853,
  quic: 853,
  grpc: 443,
  https: 443,
  https3: 443
}

/**
 * Reads a Corefile. It never throws. `defaultPort` is that of keys without a port, as CoreDNS's flag -dns.port sets
 * it.
 */
export function readCorefile(text: string, defaultPort = 53): Corefile {
  const tokens = tokenize(text)
  const zones: ServedZone[] = []
  for (let at = 0; at < tokens.length;) {
    const block = readBlock(tokens, at)
    if (block.kind === 'invalid') return block
    at = block.next
    const [only] = block.keys
    // A block with a name in parentheses is a snippet for import, and serves nothing.
    const isSnippet = block.keys.length === 1 && only !== undefined && /^\(.*\)$/.test(only.text)
    if (isSnippet) continue
    for (const key of block.keys) zones.push(...zonesOf(key, defaultPort))
  }
  const seen = new Map<string, number>()
  for (const { zone, port, transport, line } of zones) {
    const id = `${transport}://${zone === '.' ? '' : zone}.:${port}`
    const before = seen.get(id)
    if (before !== undefined)
      return {
        kind: 'invalid',
        reason: `the server blocks of line ${before} and line ${line} both have ${id}, and CoreDNS does not start with both`
      }
    seen.set(id, line)
  }
  return { kind: 'served', zones }
}

/** A word of the file. `line` counts from 1. */
interface Token {
  readonly text: string
  readonly line: number
  readonly isFirstOfLine: boolean
}

/**
 * The words of a Corefile. White space separates words; # begins a comment, also inside a word; double quotes hold a
 * word together, even over several lines.
 */
function tokenize(text: string): Token[] {
  const tokens: Token[] = []
  let line = 1
  let word = ''
  let wordLine = 1
  let isOpen = false
  let isQuoted = false
  let isComment = false
  let lastLine = 0
  const close = (): void => {
    if (!isOpen) return
    tokens.push({ text: word, line: wordLine, isFirstOfLine: wordLine !== lastLine })
    lastLine = line
    word = ''
    isOpen = false
  }
  for (let at = 0; at < text.length; at++) {
    const letter = text[at] ?? ''
    if (isQuoted) {
      if (letter === '\\' && text[at + 1] === '"') word += text[++at] ?? ''
      else if (letter === '"') {
        isQuoted = false
        close()
      } else word += letter
      if (letter === '\n') line += 1
    } else if (/\s/.test(letter)) {
      close()
      if (letter === '\n') {
        line += 1
        isComment = false
      }
    } else if (isComment || letter === '#') {
      close()
      isComment = true
    } else {
      if (!isOpen) {
        isOpen = true
        wordLine = line
        if (letter === '"') {
          isQuoted = true
          continue
        }
      }
      word += letter
    }
  }
  close()
  return tokens
}

/** The keys of a server block, and the index of the token behind it. */
type Block =
  | { readonly kind: 'block'; readonly keys: readonly Token[]; readonly next: number }
  | { readonly kind: 'invalid'; readonly reason: string }

/** Reads the block that begins at a token. */
function readBlock(tokens: readonly Token[], from: number): Block {
  const keys: Token[] = []
  let at = from
  // A comma at the end of a key announces another key, which may stand on the next line.
  let isExpecting = true
  for (; at < tokens.length; at++) {
    const token = tokens[at]
    if (token === undefined || token.text === '{') break
    if (token.isFirstOfLine && keys.length > 0 && !isExpecting) break
    if (token.isFirstOfLine && keys.length === 0 && token.text === 'import') {
      // The imported file cannot be read here. The arguments of import stand on the same line.
      for (at += 1; at < tokens.length && tokens[at]?.isFirstOfLine === false; at++);
      return { kind: 'block', keys: [], next: at }
    }
    isExpecting = token.text.endsWith(',')
    keys.push({ ...token, text: token.text.replace(/,+$/, '') })
  }
  const open = tokens[at]
  // A block without braces ends with the file.
  if (open?.text !== '{') return { kind: 'block', keys, next: tokens.length }
  if (keys.length === 0) return { kind: 'invalid', reason: `line ${open.line}: there is no zone before "{"` }
  for (let depth = 0; at < tokens.length; at++) {
    const text = tokens[at]?.text
    if (text === '{') depth += 1
    if (text === '}') depth -= 1
    if (depth === 0) return { kind: 'block', keys, next: at + 1 }
  }
  return { kind: 'invalid', reason: `line ${open.line}: the "{" of this server block is not closed` }
}

/** The zones of one key, such as "tls://example.org:853" or "10.1.0.0/16". A prefix stands for its reverse zones. */
function zonesOf({ text, line }: Token, defaultPort: number): ServedZone[] {
  if (text === '') return []
  const [, transport = 'dns', rest = ''] = /^(?:([a-z0-9]+):\/\/)?(.*)$/s.exec(text.toLowerCase()) ?? []
  const [, host = rest, portText] = /^(.*?)(?::(\d{1,5}))?$/s.exec(rest) ?? []
  const port = portText === undefined ? portOf(transport, defaultPort) : Number(portText)
  const parsed = parseCidr(host)
  const names = parsed.kind === 'cidr' ? reverseZones(parsed.cidr) : reversedHostBits(host)
  return names.map((name) => ({ zone: name.replace(/(?<=.)\.$/, ''), port, transport, line }))
}

/** The port of a key that names none. */
function portOf(transport: string, defaultPort: number): number {
  return transport === 'dns' ? defaultPort : (PORTS[transport] ?? defaultPort)
}

/**
 * The reverse zone of a prefix with host bits set, which CoreDNS accepts: 10.1.2.3/16 is 1.10.in-addr.arpa. Any other
 * text is returned as it is.
 */
function reversedHostBits(host: string): readonly string[] {
  const [, address = '', length = ''] = /^([0-9.]+|[0-9a-f:]+)\/(\d{1,3})$/.exec(host) ?? []
  if (address === '') return [host]
  const whole = parseCidr(`${address}/${address.includes(':') ? 128 : 32}`)
  if (whole.kind !== 'cidr') return [host]
  const step = address.includes(':') ? 4 : 8
  const [exact] = reverseZones(whole.cidr)
  const labels = (exact ?? '').split('.')
  const most = address.includes(':') ? 128 : 32
  const dropped = (most - Math.floor(Number(length) / step) * step) / step
  return Number(length) <= most ? [labels.slice(dropped).join('.')] : [host]
}
