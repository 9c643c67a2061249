// Answers SQL with DuckDB: reads {name: sql} from standard input, and writes
// {name: [row]} to standard output, each row an object. Integers of 64 bits are
// strings, because JSON's are not that wide everywhere.
import { DuckDBInstance } from '@duckdb/node-api';
import { text } from 'node:stream/consumers';

const queries = JSON.parse(await text(process.stdin));
const instance = await DuckDBInstance.create(':memory:', { threads: '2' });
const connection = await instance.connect();
const answers = {};
for (const [name, sql] of Object.entries(queries)) {
  try {
    answers[name] = (await connection.runAndReadAll(sql)).getRowObjectsJson();
  } catch (error) {
    process.stderr.write(`${name}: ${error.message}\n${sql}\n`);
    process.exit(1);
  }
}
process.stdout.write(JSON.stringify(answers));
