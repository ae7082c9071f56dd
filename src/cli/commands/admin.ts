// `meshctl admin key|add|remove|list`: the administrators of the mesh. The requests are POST /v1/admin/…, the list comes from
// GET /v1/trust.
//
// A second administrator takes two commands on two agents, so that no secret travels: `admin key` on the agent of the new
// one prints a public key, and `admin add` on an agent with a seat signs the seat of that key. The statement spreads to
// all members, and from then on each of them accepts what the new key signs within the rights of its seat
// (docs/trust-set.md, F3 and F4).
import type { Command } from 'commander'
import { ENDPOINTS } from '../../api/endpoints.ts'
import { collect, parseKey, parsePrefix, parseSeconds, quote } from '../meshd/arguments.ts'
import { addExamples, contextOf, print } from '../meshd/context.ts'
import { renderStatement } from '../meshd/statement.ts'
import { badArgument } from '../output/errors.ts'
import { fetchPart, seatTable } from './trust.ts'

// The rights of a seat count the span of its invites in whole days. A shorter time is rounded up: `--expires 12h` gives the
// right to invites of one day.
const DAY_SECONDS = 86_400

/** The form of `--key`, and how it is found out. */
const WHOLE_KEY = {
  min: 64,
  where: 'give the whole key that `meshctl admin key` prints on the agent of the new administrator'
}

/**
 * Adds the command `admin`. `admin list` changes nothing; its table is `seatTable` of trust.ts. Errors of meshd:
 *   NO_SEAT: no seat of this agent stands that may sign this;
 *   UNKNOWN_SEAT: no seat, or more than one, has this label or beginning of an id;
 *   LAST_SEAT: without this seat the mesh as a whole could not be administered, and --force is not given;
 *   BAD_ARGUMENT: a right is malformed, or exceeds those of the seat that signs;
 *   NOT_JOINED: this agent is in no mesh (exit code 4).
 */
export function addAdmin(program: Command): void {
  const admin = program
    .command('admin')
    .summary('who may invite and remove clusters')
    .description(
      'An administrator has a seat: a key with rights over names and prefixes. Every agent can be one. With two seats the ' +
        'mesh does not hang on one disk.'
    )
  addKey(admin)
  addAdd(admin)
  addRemoveSeat(admin)
  const list = admin
    .command('list')
    .summary('the seats, their rights, and whether they stand')
    .description('Lists the seats. "(here)" marks those whose key this agent holds.')
    .action(async () => {
      const context = contextOf(list, { hasTable: true })
      print(context, await fetchPart(context, 'seats'), ({ seats }) =>
        context.format === 'name'
          ? { body: seats.map(({ label }) => label).join('\n') }
          : { body: seatTable(seats, context) }
      )
    })
  addExamples(admin, [
    ['On the agent of the new administrator', 'meshctl admin key'],
    ['On an agent with a seat', 'meshctl admin add ann --key 3f9c…']
  ])
  addExamples(list, [['Who may invite', 'meshctl admin list']])
}

/**
 * `admin key` prints the public half of a key that this agent makes once and keeps: a second run prints the same key. The
 * answer is 64 hexadecimal digits and no secret. The mesh learns nothing by it; the key has no right until a seat names it.
 */
function addKey(admin: Command): void {
  const command = admin
    .command('key')
    .summary('the public key of this agent as an administrator')
    .description(
      'Prints the key that another administrator gives to `meshctl admin add`. The secret half stays here.'
    )
    .action(async () => {
      const context = contextOf(command)
      const answer = await context.client.request(ENDPOINTS.adminKey, {
        send: {},
        field: 'adminKey',
        doing: 'reading the key'
      })
      print(context, answer, ({ adminKey }) => ({
        body: adminKey,
        note: 'An administrator of the mesh runs: meshctl admin add <label> --key <this key>'
      }))
    })
  addExamples(command, [['On the agent of the new administrator', 'meshctl admin key']])
}

/**
 * The flags of `admin add`: the rights of the new seat. Without flags it has all rights but the one to create seats, so
 * that a careless `admin add` does not hand on the power to name further administrators.
 */
interface AddOptions {
  readonly key: string
  /** Patterns of cluster names with commas, such as "edge-*"; undefined: all names. */
  readonly names?: string
  /** The prefixes within which it may give prefixes to clusters; undefined: all of IPv4 and IPv6. */
  readonly prefix?: readonly string[]
  /** The longest span of an invite, as in "30d". meshd takes 1 to 366 days. */
  readonly expires: string
  /** The number of clusters that may stand by its invites; 2048, the default, is as many as a mesh holds. */
  readonly clusters: string
  /** True: it may create seats whose rights lie within its own. */
  readonly maySeat?: boolean
  readonly root?: boolean
}

/**
 * `admin add` creates a seat. It stands under the roots when this agent holds enough root keys, and otherwise under the seat
 * of this agent: then it falls with that seat, unless the removal keeps it. The default rights are all rights, so an agent
 * whose own seat has fewer must give the flags. Errors of meshd: NO_SEAT when this agent has neither roots nor a seat,
 * SEAT_EXCEEDED when its seats may not create seats, BAD_ARGUMENT when the label is that of a seat that stands, or when the
 * rights exceed those of the seat that signs; the text names the field.
 */
function addAdd(admin: Command): void {
  const command = admin
    .command('add')
    .summary('create the seat of one more administrator')
    .description(
      'Creates a seat for a key that `meshctl admin key` printed on the agent of the new administrator. Its rights lie ' +
        'within those of the seat of this agent. On the agent with the root keys, the seat stands under the roots.'
    )
    .argument('<label>', 'name of the administrator, for people')
    .requiredOption('--key <key>', 'public key of the administrator, 64 hexadecimal digits')
    .option(
      '--names <names>',
      'names of clusters that it may invite, with commas; a last * stands for any ending (default: *)'
    )
    .option(
      '--prefix <prefix>',
      'prefix that it may give; repeat or use commas (default: all)',
      collect('--prefix', parsePrefix)
    )
    .option('--expires <time>', 'how long its invites may be valid at most', '30d')
    .option('--clusters <number>', 'how many clusters it may invite', '2048')
    .option('--may-seat', 'it may create seats, too')
    .option(
      '--root',
      'directly under the root keys, which this agent must hold (root import), and under no seat'
    )
    .action(async (label: string, options: AddOptions) => {
      const context = contextOf(command)
      const key = parseKey('--key', options.key, WHOLE_KEY)
      const clusters = parseClusters(options.clusters)
      const answer = await context.client.request(ENDPOINTS.adminAdd, {
        send: {
          label,
          key,
          ...(options.names === undefined
            ? {}
            : { names: options.names.split(',').map((name) => name.trim()) }),
          ...(options.prefix === undefined ? {} : { prefixes: options.prefix }),
          inviteDays: Math.max(1, Math.ceil(parseSeconds('--expires', options.expires) / DAY_SECONDS)),
          clusters,
          maySeat: options.maySeat === true,
          ...(options.root === true ? { root: true } : {})
        },
        field: 'done',
        doing: 'creating the seat'
      })
      print(context, answer, renderStatement)
    })
  addExamples(command, [
    ['A second administrator with all rights', 'meshctl admin add ann --key 3f9c… --may-seat'],
    [
      'One for the edge sites only',
      'meshctl admin add edge --key 3f9c… --names "edge-*" --prefix 10.64.0.0/10 --clusters 50'
    ]
  ])
}

/**
 * `admin remove` takes a seat back by a Void, which lists the statements that this agent keeps (rules S1 and S2). The list
 * holds what stands here and no dates, because a thief of the key can backdate what it signs. Its answer says how many
 * statements stay, and how many fall because a Void keeps at most 2,048. Open invites of the seat end with it. Errors of
 * meshd: UNKNOWN_SEAT, LAST_SEAT, and NO_SEAT when this agent holds neither the roots nor the seat itself nor the one above.
 */
function addRemoveSeat(admin: Command): void {
  const command = admin
    .command('remove')
    .summary('take the seat of an administrator back')
    .description(
      'Takes a seat back. Everything that stands below it here stays: the clusters that it invited go on. What it signs ' +
        'later, or has signed without this agent knowing, counts nowhere; `meshctl decide` adopts such a cluster. The last ' +
        'seat for all names and prefixes needs --force while the root keys are in no file.'
    )
    .argument('<seat>', 'label, or the beginning of the id')
    .option('--force', 'also the last seat for all names and prefixes')
    .action(async (seat: string, options: { readonly force?: boolean }) => {
      const context = contextOf(command)
      const answer = await context.client.request(ENDPOINTS.adminRemove, {
        send: { seat, force: options.force === true },
        field: 'done',
        doing: 'removing the seat'
      })
      print(context, answer, renderStatement)
    })
  addExamples(command, [['An administrator whose key is lost', 'meshctl admin remove ann']])
}

/** Parses --clusters. It is checked here, too, because the error names the flag; meshd checks the upper bound. */
function parseClusters(text: string): number {
  const clusters = Number(text)
  if (Number.isInteger(clusters) && clusters >= 1) return clusters
  throw badArgument('--clusters', `${quote(text)} is not a number from 1 to 2048`, 'write it like 20')
}
