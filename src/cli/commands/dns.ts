// `meshctl dns` prints the answer of meshd's DNS responder for a name, or the zones that it serves. It shows what the
// responder sends to a pod, without a DNS client on the host, and names the upstream server that answered. The request
// is GET /v1/dns.
import type { Command } from 'commander'
import type { DnsAnswer } from '../../api/answers.ts'
import { ENDPOINTS } from '../../api/endpoints.ts'
import { reverseName } from '../../core/dns/arpa.ts'
import { parseIp } from '../../core/model/cidr.ts'
import { quote } from '../meshd/arguments.ts'
import { addExamples, contextOf, endWith, print, type Context, type Rendered } from '../meshd/context.ts'
import { badArgument } from '../output/errors.ts'
import { EXIT } from '../output/exit-codes.ts'
import { formatTable } from '../output/table.ts'

interface Options {
  readonly type?: string
}

/** The record types that meshd accepts in this request; also the candidates of completion for --type. */
export const RECORD_TYPES = ['A', 'AAAA', 'SRV', 'PTR', 'TXT', 'CNAME', 'SOA', 'NS']

/**
 * Adds the command `dns`. An answer other than NOERROR is printed and ends with exit code 1. Errors of meshd:
 * NOT_JOINED, because the responder runs only in a mesh.
 */
export function addDns(program: Command): void {
  const command = program
    .command('dns')
    .summary('what a name resolves to, or the zones that meshd serves')
    .description(
      'Asks meshd what its DNS responder answers for a name. The responder forwards a name outside the mesh to the ' +
        'upstream server, and the output names that server. Without a name the command lists the zones. For an IP ' +
        'address it asks for the PTR record.'
    )
    .argument('[name]', 'name or IP address; a name may end with a dot')
    .option('-t, --type <type>', `record type: ${RECORD_TYPES.join(', ')} (default: A, for an address PTR)`)
    .action(async (name: string | undefined, options: Options) => {
      const context = contextOf(command, { hasTable: true })
      const question = name === undefined ? undefined : questionOf(name, options.type)
      if (question === undefined && options.type !== undefined) {
        throw badArgument(
          '--type',
          'this flag needs a name',
          'give a name, as in meshctl dns web.shop.svc.cluster.east'
        )
      }
      const answer = await context.client.request(ENDPOINTS.dns, {
        ...(question === undefined ? {} : { send: question }),
        field: question === undefined ? 'zones' : 'rcode',
        doing: 'asking the responder'
      })
      print(context, answer, (clean) =>
        question === undefined ? renderZones(clean, context) : renderRecords(clean, question, context)
      )
      if (question !== undefined && answer.rcode !== 'NOERROR') endWith(EXIT.failed)
    })
  addExamples(
    command,
    [
      ['The zones, and how many names each has', 'meshctl dns'],
      ['A service of cluster east', 'meshctl dns web.shop.svc.cluster.east'],
      ['The same service, wherever it runs', 'meshctl dns web.shop.svc.cluster.all'],
      ['Ports of a headless service', 'meshctl dns _db._tcp.db.shop.svc.cluster.east --type SRV'],
      ['Which name has this address?', 'meshctl dns 10.102.0.10'],
      ['A name outside the mesh, and which upstream answers it', 'meshctl dns example.com']
    ],
    'Exit codes: 0 when the name exists (also without a record of this type), 1 for NXDOMAIN, SERVFAIL, REFUSED and other failures.'
  )
}

// The fields of the query. It is a record of strings, because the client writes it into the URL.
interface Question extends Readonly<Record<string, string>> {
  readonly name: string
  readonly type: string
}

/**
 * Returns the question for a name, or for an address the question for its PTR record. `type` is the value of --type in
 * any case of letters; the default is A for a name and PTR for an address. Errors: CliError BAD_ARGUMENT for a wrong
 * type or name.
 */
function questionOf(name: string, type: string | undefined): Question {
  const asked = type?.toUpperCase()
  if (asked !== undefined && !RECORD_TYPES.includes(asked)) {
    throw badArgument(
      '--type',
      `${quote(type ?? '')} is not a type that meshd answers`,
      `use ${RECORD_TYPES.join(', ')}`
    )
  }
  const ip = parseIp(name)
  if (ip !== undefined) return { name: reverseName(ip), type: asked ?? 'PTR' }
  // The 255 bytes of a name (RFC 1035 §2.3.4) are 253 characters of text, or 254 with a dot at the end.
  if (!/^(?!\.)[a-zA-Z0-9_.-]{1,254}$/.test(name) || name.includes('..')) {
    throw badArgument(
      'name',
      `${quote(name)} is not a DNS name`,
      'use labels of a-z 0-9 - _ with dots between, as in web.shop.svc.cluster.east'
    )
  }
  return { name, type: asked ?? 'A' }
}

/** Returns the table of zones. Without zones there is only a note, so that a script that reads stdout gets no row. */
function renderZones(answer: DnsAnswer, context: Context): Rendered {
  const zones = answer.zones ?? []
  if (zones.length === 0) return { note: 'No zones are served. `meshctl status` shows why' }
  if (context.format === 'name') return { body: zones.map(({ zone }) => zone).join('\n') }
  const body = formatTable(
    zones,
    [
      { title: 'ZONE', value: (zone) => zone.zone },
      {
        title: 'STATE',
        value: (zone) => zone.state,
        colour: (zone) => (zone.state === 'serving' ? 'green' : 'yellow')
      },
      { title: 'NAMES', value: (zone) => String(zone.names) }
    ],
    context
  )
  return { body }
}

/**
 * Returns the table of records. An answer without records is one line that begins with its response code; with -o name
 * it is a note, because stdout then has names alone. The note says which upstream answered, if one was asked.
 */
function renderRecords(answer: DnsAnswer, question: Question, context: Context): Rendered {
  const records = answer.records ?? []
  const forwarded = forwardedNote(answer)
  if (records.length === 0) {
    const text = emptyAnswer(answer, question)
    return context.format === 'name' ? { note: text } : { ...forwarded, body: text }
  }
  if (context.format === 'name') return { ...forwarded, body: records.map(({ name }) => name).join('\n') }
  const body = formatTable(
    records,
    [
      { title: 'NAME', value: (record) => record.name },
      { title: 'TTL', value: (record) => String(record.ttl) },
      { title: 'TYPE', value: (record) => record.type },
      { title: 'DATA', value: (record) => record.data, fold: 0 }
    ],
    context
  )
  return { ...forwarded, body }
}

/**
 * Returns the note that says which upstream answered, or why none did. For a service of type ExternalName the mesh has
 * the name, and only its target is asked of an upstream: then `upstream` is set and `forwarded` is false.
 */
function forwardedNote({ forwarded, upstream, rcode }: DnsAnswer): { readonly note?: string } {
  if (upstream !== undefined)
    return {
      note: `${forwarded === true ? 'Not a name of the mesh: forwarded' : 'The target is not a name of the mesh: forwarded'} to ${upstream}`
    }
  if (forwarded !== true) return {}
  const why =
    rcode === 'REFUSED' ? 'there is no upstream server to forward it to' : 'no upstream server answered'
  return { note: `Not a name of the mesh, and ${why}` }
}

/**
 * Returns the text for an answer without records. It tells apart a name without this type, an unknown name, a catalogue
 * that has not arrived yet, and an upstream that failed: each needs another action of the user.
 */
function emptyAnswer({ rcode = '', forwarded, upstream }: DnsAnswer, { name, type }: Question): string {
  if (upstream !== undefined && forwarded === true && rcode !== 'NOERROR' && rcode !== 'NXDOMAIN')
    return `${rcode}: the upstream server did not resolve ${name}`
  switch (rcode) {
    case 'NOERROR':
      return `NOERROR: ${name} exists, but has no ${type} record`
    case 'NXDOMAIN':
      return `NXDOMAIN: ${name} does not exist`
    case 'SERVFAIL':
      return forwarded === true
        ? `SERVFAIL: no upstream server resolved ${name}`
        : 'SERVFAIL: the services of that cluster are not known here yet'
    case 'REFUSED':
      return `REFUSED: ${name} is in no zone of the mesh, and no upstream is set (dns-upstream)`
    default:
      return rcode
  }
}
