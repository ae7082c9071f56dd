// The server blocks of a Corefile: which zones it serves, and whether CoreDNS would load it. For Corefiles that others wrote.
// Source: the lexer and parser of coredns/caddy (caddyfile/lexer.go, parse.go) and the key rules of coredns/core/dnsserver/address.go.
import { parseCidr } from '../model/cidr.ts'
import { reverseZones } from './reverse-zones.ts'

interface ServedZone {
  /** In lower case, without a dot at the end; '.' for the root. */
  readonly zone: string
  readonly port: number
  /** dns, tls, quic, grpc or https: each is a listener of its own. */
  readonly transport: string
  readonly line: number
}

type Corefile =
  | { readonly kind: 'served'; readonly zones: readonly ServedZone[] }
  /** CoreDNS would not load it. */
  | { readonly kind: 'invalid'; readonly reason: string }

const PORTS: Readonly<Record<string, number>> = {
  dns: 53,
  tls: 853,
  quic: 853,
  grpc: 443,
  https: 443,
  https3: 443
}

/** `defaultPort`: of keys without one, as the flag -dns.port has it. */
export function readCorefile(text: string, defaultPort = 53): Corefile {
  const tokens = tokenize(text)
  const zones: ServedZone[] = []
  for (let at = 0; at < tokens.length;) {
    const block = readBlock(tokens, at)
    if (block.kind === 'invalid') return block
    at = block.next
    const [only] = block.keys
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
        reason: `${id} is in the server blocks of line ${before} and of line ${line}: CoreDNS does not start with both`
      }
    seen.set(id, line)
  }
  return { kind: 'served', zones }
}

interface Token {
  readonly text: string
  readonly line: number
  readonly isFirstOfLine: boolean
}

/** White space separates; # begins a comment, also inside a word; double quotes hold a word together, over lines, too. */
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

type Block =
  | { readonly kind: 'block'; readonly keys: readonly Token[]; readonly next: number }
  | { readonly kind: 'invalid'; readonly reason: string }

function readBlock(tokens: readonly Token[], from: number): Block {
  const keys: Token[] = []
  let at = from
  // A comma at the end of a key says that another key follows, on the next line, too.
  let isExpecting = true
  for (; at < tokens.length; at++) {
    const token = tokens[at]
    if (token === undefined || token.text === '{') break
    if (token.isFirstOfLine && keys.length > 0 && !isExpecting) break
    if (token.isFirstOfLine && keys.length === 0 && token.text === 'import') {
      // What is imported is not here to be read; its other words stand on the same line.
      for (at += 1; at < tokens.length && tokens[at]?.isFirstOfLine === false; at++);
      return { kind: 'block', keys: [], next: at }
    }
    isExpecting = token.text.endsWith(',')
    keys.push({ ...token, text: token.text.replace(/,+$/, '') })
  }
  const open = tokens[at]
  // A block without braces goes on to the end of the file.
  if (open?.text !== '{') return { kind: 'block', keys, next: tokens.length }
  if (keys.length === 0)
    return { kind: 'invalid', reason: `line ${open.line}: a "{" without a zone before it` }
  for (let depth = 0; at < tokens.length; at++) {
    const text = tokens[at]?.text
    if (text === '{') depth += 1
    if (text === '}') depth -= 1
    if (depth === 0) return { kind: 'block', keys, next: at + 1 }
  }
  return { kind: 'invalid', reason: `line ${open.line}: the "{" of this server block is not closed` }
}

function zonesOf({ text, line }: Token, defaultPort: number): ServedZone[] {
  if (text === '') return []
  const [, transport = 'dns', rest = ''] = /^(?:([a-z0-9]+):\/\/)?(.*)$/s.exec(text.toLowerCase()) ?? []
  const [, host = rest, portText] = /^(.*?)(?::(\d{1,5}))?$/s.exec(rest) ?? []
  const port = portText === undefined ? portOf(transport, defaultPort) : Number(portText)
  const parsed = parseCidr(host)
  const names = parsed.kind === 'cidr' ? reverseZones(parsed.cidr) : reversedHostBits(host)
  return names.map((name) => ({ zone: name.replace(/(?<=.)\.$/, ''), port, transport, line }))
}

function portOf(transport: string, defaultPort: number): number {
  return transport === 'dns' ? defaultPort : (PORTS[transport] ?? defaultPort)
}

/** CoreDNS takes a prefix with bits set behind its length, too: 10.1.2.3/16 is 1.10.in-addr.arpa. */
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
