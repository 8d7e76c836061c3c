for (const table of document.querySelectorAll('table.sortable')) {
  const heads = [...table.tHead.rows[0].cells];
  const order = [...table.tBodies[0].rows];
  heads.forEach((head, column) => {
    const button = document.createElement('button');
    button.append(...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const numbers = head.classList.contains('number');
      const before = head.getAttribute('aria-sort');
      const first = numbers ? 'descending' : 'ascending';
      const second = numbers ? 'ascending' : 'descending';
      const now = before === first ? second : first;
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const compare = (a, b) =>
        numbers ? value(a) - value(b) : value(a).localeCompare(value(b), undefined, {numeric: true});
      const sign = now === 'ascending' ? 1 : -1;
      heads.forEach((other) => other.removeAttribute('aria-sort'));
      head.setAttribute('aria-sort', now);
      table.tBodies[0].append(...order.toSorted((a, b) => sign * compare(a, b)));
    };
  });
}
