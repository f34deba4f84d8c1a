// Where Ordercast does something else than Socket.IO's own server, and why. node.test.mjs finds the inputs of each.

const all = (...patterns) => ({ name }) => patterns.some((pattern) => (typeof pattern === 'string' ? pattern === name : pattern.test(name)));
const ends = (text) => /(^| \| )the end/.test(text);

/** The first one that `is` the explanation of a result counts. */
export const DIFFERENCES = [
  {
    what: 'A WebSocket handshake that fails',
    why: 'The answer is JSON with the code, as for polling. Clients see the status only.',
    is: all(/^WebSocket handshake/),
  },
  {
    what: 'An empty `sid`',
    why: 'A client that sends an empty id has lost its own. A new session would be one that nobody ends.',
    is: all('GET ?EIO=4&transport=polling&sid='),
  },
  {
    what: 'JSONP',
    why: 'It is for browsers without CORS, the last of which was Internet Explorer 9.',
    is: all(/&j=0$/),
  },
  {
    what: 'A method that HTTP does not know',
    why: 'Node’s HTTP parser refuses it before Socket.IO sees it.',
    is: all(/^POLL /),
  },
  {
    what: 'The path',
    why: 'With and without its slash, and nothing below it but the client library. Other paths are not Socket.IO’s, and are answered as such.',
    is: all(/^the path/, 'GET socket.io.php'),
  },
  {
    what: 'The client library',
    why: 'The type is the one of RFC 9239. Source maps are not in the binary.',
    is: all(/^GET socket\.io\./),
  },
  {
    what: 'A method that is none of polling’s, with a `sid`',
    why: 'It is the client’s fault, so it is 400 and not 500. The session goes on.',
    is: all(/^(PUT|PATCH|DELETE|OPTIONS) with a sid$/),
  },
  {
    what: 'A post of bytes',
    why: 'The type of a body is not looked at. What is not text breaks the protocol.',
    is: all('a post of bytes'),
  },
  {
    what: 'Two polls at once',
    why: 'The session ends. The first poll fails, where Node answers it with packet `1`: python-socketio takes that for a goodbye and stays away.',
    is: all('two polls at once'),
  },
  {
    what: 'Packet `1` while a client polls',
    why: 'The session ends. One more poll is answered, because it may have crossed the goodbye on its way.',
    is: all(/^polling: 1(, joined)?$/),
  },
  {
    what: 'Polling: the protocol is broken',
    why: 'The session ends on both. Node answers the post with 200, and some sessions’ next poll with packet `1`, which python-socketio takes for a goodbye. Here a post that cannot be read is answered 400, and requests after it as those of an unknown session.',
    is: ({ name, ours, theirs }) => /polling/.test(name) && ends(ours) && ends(theirs),
  },
  {
    what: 'Packet `1` on a WebSocket',
    why: 'The client says that it leaves, so the session ends at once. Node waits for the end of the connection.',
    is: all(/^(version 3, )?WebSocket: 1x?(, joined)?$/),
  },
  {
    what: 'A heartbeat in the wrong direction',
    why: 'A ping of a client of version 4, or a pong of one of version 3, does no harm and costs nobody a session.',
    is: all(/^(polling|WebSocket): 2(x|probe)?(, joined)?$/, /^version 3, \w+: 3$/, 'version 3, polling body: 1:'),
  },
  {
    what: 'Joining again',
    why: 'The client is in this namespace already. That is no reason to end its session.',
    is: all(/: 40\/realtime(,|,\{\}|,\{"token":"T"\})?, joined$/),
  },
  {
    what: 'Joining with a payload that is no object',
    why: 'The client is refused by name, and may try again on the same connection.',
    is: all(/: 40(,|nowhere|\/nowhere,x|\/realtime,(\{bad|\[\]|\[1\]|"x"|null|\{\}x))$/),
  },
  {
    what: 'Joining with two tokens in one payload',
    why: 'Which one counts would depend on the reader, so none does.',
    is: all(/: 40\/realtime,\{"token":"T","token":"T"\}$/),
  },
  {
    what: 'Acks with long numbers',
    why: 'The number comes back digit by digit. In JavaScript it is a double, and comes back as another one above 2⁵³.',
    is: ({ name, ours, theirs }) => /"ping:latency"|\(66\)/.test(name) && /43\/realtime,\d{16,}\[/.test(ours) && /43\/realtime,[\de+.]{16,}\[/.test(theirs),
  },
  {
    what: 'Acks with numbers of more than 39 digits',
    why: 'The request is carried out and not answered. Node answers with the number `Infinity`.',
    is: all(/ 42\/realtime,9{20,}.*\(436\), joined$/),
  },
  {
    what: 'White space in a packet',
    why: 'JavaScript reads white space as the number 0, so Node takes it for a packet type and for digits of an ack. No client sends that.',
    is: all(/: 4 0$/, /: 42\/realtime,( 1|1\\ufeff)\["ping:latency"/),
  },
  {
    what: 'Events with names that are reserved on a client',
    why: 'They are refused by name, as every unknown event.',
    is: all(/: 42\/realtime,1?\["(connect|connect_error|disconnect|disconnecting|newListener|removeListener)"/),
  },
  {
    what: 'Attachments',
    why: 'No event has any. They are counted and thrown away, and the event is refused by name. An ack number of an event with attachments may have 19 digits.',
    is: all(/attachment/, /: 450-\/realtime,\["a"\], joined$/),
  },
  {
    what: 'A packet behind the one that leaves the namespace',
    why: 'The namespace is left at once. Node carries out what it read in one piece first.',
    is: all('WebSocket: asking after leaving', 'WebSocket: leaving, asking, coming back'),
  },
  {
    what: 'Version 3: a probe where there is no try',
    why: 'It means nothing. Node answers it as a ping.',
    is: all(/^version 3, \w+: 2probe$/),
  },
  {
    what: 'Version 3: an unknown namespace with a query',
    why: 'The refusal names the namespace as the client sent it.',
    is: all(/^version 3, \w+: 40\/nowhere\?x=y,$/),
  },
  {
    what: 'Version 3: lengths that are no plain number',
    why: 'The protocol has digits there. JavaScript also reads `1.0` and ` 1`.',
    is: all('version 3, polling body: 1.0:2', 'version 3, polling body:  1:2'),
  },
  {
    what: 'A try of a WebSocket that is not finished',
    why: 'A packet that is none of a try ends the try, also a second probe. The client goes on polling.',
    is: all('upgrade: two probes', 'upgrade: change without a probe'),
  },
];

const code = (text) => `\`${text.replaceAll('|', '\\|')}\``;
const short = (text) => {
  const line = text.replace(/\s+/g, ' ').replaceAll(' | ', ' · ');
  return code(line.length > 130 ? `${line.slice(0, 127)}…` : line);
};

/** The page: one row for each difference, with the first input as its example, and then all the inputs. */
export const page = (rows, total) => `# Beside Socket.IO's own server

\`tests/clients/socketio/node.test.mjs\` sends the same ${total} inputs to Ordercast and to Socket.IO's own server (socket.io 4.8 with \`allowEIO3\`), and compares what clients see: every HTTP answer and packet, and whether
the session goes on. ${total - rows.reduce((sum, { found }) => sum + found.length, 0)} of them come out the same. The test fails if another input differs, if one of these no longer does, and if this page is not what the servers do; \`UPDATE=1\` writes it anew.

What a test application answers is left out (\`…\`), and so are ids and WebSocket close frames: Node's have no code, Ordercast's say \`1002 Protocol error\` once a client is in a namespace. Clients come back after both.
\`·\` separates what a client sees one after the other.

| input | Node | Ordercast | why |
|---|---|---|---|
${rows.map(({ what, why, found }) => {
    const [{ name, ours, theirs }] = found;
    return `| ${what}; ${found.length === 1 ? '' : 'such as '}${code(name)} | ${short(theirs)} | ${short(ours)} | ${why} |`;
  }).join('\n')}

## The inputs

${rows.map(({ what, found }) => `- ${what}: ${found.map(({ name }) => code(name.replaceAll('\\|', '|'))).join(', ')}`).join('\n')}
`;
